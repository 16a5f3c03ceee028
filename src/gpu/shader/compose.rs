use std::fmt::Write;
use std::mem::offset_of;

use crate::Error;
use crate::clip::{ClipForm, Norm};
use crate::kernels::control::ControlBlock;
use crate::rule::{Rule, Segmentation};

const CONTROL: &str = include_str!("../../../shaders/kernels/control.wgsl");
const RULE: &str = include_str!("../../../shaders/device/step_uniforms.wgsl");
const CHUNK: &str = include_str!("../../../shaders/device/chunk.wgsl");
const LANES: &str = include_str!("../../../shaders/device/quad_options.wgsl");
const GROUPS: &str = concat!(
    include_str!("../../../shaders/device/group_lookup/search.wgsl"),
    "\n",
    include_str!("../../../shaders/no_near.wgsl")
);
const BLOCKS: &str = include_str!("../../../shaders/device/group_lookup/block.wgsl");
const PADDED: &str = include_str!("../../../shaders/device/group_lookup/padded.wgsl");
const SPAN: &str = concat!(
    include_str!("../../../shaders/device/group_lookup/uniform.wgsl"),
    "\n",
    include_str!("../../../shaders/no_near.wgsl")
);
const LR_SCALE: &str = include_str!("../../../shaders/device/learning_rate/scaled.wgsl");
const GROUP_LRS: &str = include_str!("../../../shaders/device/learning_rate/by_group.wgsl");
const PARTIAL: &str = include_str!("../../../shaders/kernels/scaled_sum.wgsl");
const NORM: &str = include_str!("../../../shaders/kernels/global_norm.wgsl");
const FINISH: &str = include_str!("../../../shaders/kernels/decide.wgsl");
const SEGMENTS: &str = include_str!("../../../shaders/segments.wgsl");
const ITEMS: &str = include_str!("../../../shaders/kernels/part_sums.wgsl");
const MEASURE: &str = include_str!("../../../shaders/kernels/segment_reduce.wgsl");
const REDUCE: &str = include_str!("../../../shaders/device/workgroup_sum.wgsl");
const SETTLE: &str = include_str!("../../../shaders/kernels/segment_update.wgsl");
const FACTORS: &str = include_str!("../../../shaders/factors.wgsl");
const LINES: &str = include_str!("../../../shaders/kernels/factor_partials.wgsl");
const SETTLE_LINES: &str = include_str!("../../../shaders/kernels/factor_update.wgsl");
const MEAN_ROWS: &str = include_str!("../../../shaders/kernels/factor_row_mean.wgsl");
const OBSERVED: &str = include_str!("../../../shaders/kernels/metric_sums.wgsl");
const OBSERVE: &str = include_str!("../../../shaders/kernels/metrics_reduce.wgsl");
const TOTALS: &str = include_str!("../../../shaders/kernels/metrics_total.wgsl");
const UPDATE: &str = include_str!("../../../shaders/kernels/update_elements.wgsl");
const VALUE: &str = include_str!("../../../shaders/transform/clip_value.wgsl");
const PERCENTILE: &str = include_str!("../../../shaders/kernels/percentile.wgsl");
const F32: &str = include_str!("../../../shaders/storage/f32.wgsl");
const F32_UNALIGNED: &str = include_str!("../../../shaders/storage/f32_unaligned.wgsl");

/// Binding of the first stream; the streams are parameters, gradients, then the states.
pub(crate) const STREAM_BINDING: u32 = 4;
/// Binding of the table of tensors, behind all streams.
pub(crate) const SEGMENTS_BINDING: u32 = STREAM_BINDING + crate::gpu::chunking::MAX_STREAMS as u32;
/// Binding of the table of factors.
pub(crate) const FACTORS_BINDING: u32 = SEGMENTS_BINDING + 1;
/// Binding of the table of observed sums.
pub(crate) const OBSERVED_BINDING: u32 = FACTORS_BINDING + 1;
/// Number of the gradients among the streams.
pub(crate) const GRAD_STREAM: usize = 1;

/// For rules that carry no scalars.
const NO_ADVANCE: &str = "\
fn advance(old: Scalars, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> Scalars {
    return old;
}
";

/// For rules that measure and keep nothing of a tensor.
const NO_SETTLE: &str = "\
fn settle(
    old: TensorState,
    measured: Measured,
    lr: f32,
    hyper: Hyper,
    bias_correction: vec4<f32>,
    t: u32,
) -> TensorState {
    return old;
}
";

/// For steps that clip nothing by value.
const NO_VALUE: &str = "\
fn clip_by_value(grad: vec4<f32>) -> vec4<f32> {
    return grad;
}
";

/// For rules that count no elements.
const NO_COUNT: &str = "\
fn count(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<bool> {
    return vec4<bool>();
}
";

/// For steps that clip by one norm throughout.
const NO_PERCENTILE: &str = "\
fn max_norm_of(grad_norm: f32, counts: bool, lane: u32) -> f32 {
    return slot.head.max_norm;
}
";

/// What a kernel knows of the chunk it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// Every stream can be accessed four elements at a time.
    pub(crate) aligned: bool,
    /// The chunk does not begin where the bindings of all streams do.
    pub(crate) shifted: bool,
    pub(crate) options: Options,
    /// Learning rates of groups in the slot, in fours: none unless groups have schedules of their own.
    pub(crate) group_lrs: u32,
}

/// Where a kernel has the options of elements from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Options {
    /// All elements are live and have the same: the chunk says them.
    OneSpan,
    /// All live elements have the same: the chunk says them, and one word for every block of 64 elements which are live.
    Padded,
    /// That word says which span they lie in, too.
    Blocks,
    /// A search through the table of groups.
    Spans,
}

impl Options {
    /// Whether elements of a chunk may be frozen; what is not live in the others is padding, or past the end.
    fn may_be_frozen(self) -> bool {
        matches!(self, Self::Blocks | Self::Spans)
    }
}

impl Form {
    /// The forms that are looked at without a device, with a label each: all that begin anywhere and know no schedules of
    /// groups; of those with such schedules four, and of those that are not shifted two, in which all lines of theirs occur.
    pub(crate) const ALL: [(&str, Self); 14] = {
        use Options::{Blocks, OneSpan, Padded, Spans};
        [
            ("aligned", Self::new(true, Spans, 0)),
            ("unaligned", Self::new(false, Spans, 0)),
            ("aligned, blocks", Self::new(true, Blocks, 0)),
            ("unaligned, blocks", Self::new(false, Blocks, 0)),
            ("aligned, padded", Self::new(true, Padded, 0)),
            ("unaligned, padded", Self::new(false, Padded, 0)),
            ("aligned, one span", Self::new(true, OneSpan, 0)),
            ("unaligned, one span", Self::new(false, OneSpan, 0)),
            ("aligned, group schedules", Self::new(true, Spans, 2)),
            ("aligned, padded, group schedules", Self::new(true, Padded, 2)),
            ("aligned, blocks, group schedules", Self::new(true, Blocks, 2)),
            ("unaligned, one span, group schedules", Self::new(false, OneSpan, 2)),
            ("aligned, one span, unshifted", Self { shifted: false, ..Self::new(true, OneSpan, 0) }),
            ("unaligned, padded, unshifted", Self { shifted: false, ..Self::new(false, Padded, 0) }),
        ]
    };

    const fn new(aligned: bool, options: Options, group_lrs: u32) -> Self {
        Self { aligned, shifted: true, options, group_lrs }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// The declaration and the accessors of one stream.
fn stream(name: &str, number: usize, access: Access, form: Form) -> String {
    let fragment = if form.aligned { F32 } else { F32_UNALIGNED };
    let (load, store) = fragment.split_once("// -- store").unwrap_or((fragment, ""));
    let (source, mode) = match access {
        Access::Read => (load.to_owned(), "read"),
        Access::ReadWrite => (format!("{load}{store}"), "read_write"),
    };
    let shift = format!("chunk.shifts[{}].{}", number / 4, ["x", "y", "z", "w"][number % 4]);
    source
        .replace("STREAM", name)
        .replace("BINDING", &(STREAM_BINDING + number as u32).to_string())
        .replace("ACCESS", mode)
        .replace("SHIFT", if form.shifted { &shift } else { "0u" })
}

/// Names of the read-write streams: parameters and states, with their stream numbers.
fn element_fields<'a>(states: &[&'a str]) -> Vec<(&'a str, usize)> {
    let states = states.iter().enumerate().map(|(i, &state)| (state, GRAD_STREAM + 1 + i));
    std::iter::once(("param", 0)).chain(states).collect()
}

/// A struct of `number`s; one without members gets one, as WGSL demands.
fn number_struct(name: &str, number: &str, members: &[&str]) -> String {
    let members = if members.is_empty() { &["unused"] } else { members };
    let separator = format!(": {number},\n    ");
    format!("struct {name} {{\n    {}: {number},\n}}\n", members.join(&separator))
}

/// A struct of up to four `number`s, and its conversions from `packed` (four of them) and to it.
fn packed_struct(name: &str, suffix: &str, number: &str, packed: &str, members: &[&str]) -> String {
    let unpacked: Vec<String> = (0..members.len().max(1)).map(|i| format!("numbers[{i}]")).collect();
    let mut fields: Vec<String> = members.iter().map(|member| format!("fields.{member}")).collect();
    fields.resize(4, format!("{number}()"));
    let (unpacked, fields) = (unpacked.join(", "), fields.join(", "));
    format!(
        "{}\nfn unpack{suffix}(numbers: {packed}) -> {name} {{\n    return {name}({unpacked});\n}}\n\n\
         fn pack{suffix}(fields: {name}) -> {packed} {{\n    return {packed}({fields});\n}}\n",
        number_struct(name, number, members)
    )
}

fn names<'a>(values: &[(&'a str, f32)]) -> Vec<&'a str> {
    values.iter().map(|&(name, _)| name).collect()
}

/// A fragment without the lines marked for rules with sums over tensors, or with factors, so that the others do not pay
/// for them.
fn without(mark: &str, fragment: &str) -> String {
    fragment.lines().filter(|line| !line.ends_with(mark)).flat_map(|line| [line, "\n"]).collect()
}

fn without_measured(fragment: &str) -> String {
    without("// MEASURED", fragment)
}

/// Where the options of elements come from.
fn options(form: Form) -> &'static str {
    match form.options {
        Options::OneSpan => SPAN,
        Options::Padded => PADDED,
        Options::Blocks => BLOCKS,
        Options::Spans => GROUPS,
    }
}

/// Where the learning rates of elements come from.
fn learning_rates(group_lrs: u32) -> &'static str {
    if group_lrs == 0 { LR_SCALE } else { GROUP_LRS }
}

/// A fragment as a rule needs it.
fn fragment_for(rule: &dyn Rule, fragment: &str) -> String {
    let fragment = if rule.factored() { fragment.to_owned() } else { without("// FACTORED", fragment) };
    if rule.measures().is_empty() { without_measured(&fragment) } else { fragment }
}

/// A rule and the types it names. It comes first, so that its line numbers are the user's own.
fn rule_and_types(rule: &dyn Rule) -> String {
    rule_and_types_with(rule, 0)
}

/// The same for kernels that read so many fours of learning rates of groups.
fn rule_and_types_with(rule: &dyn Rule, group_lrs: u32) -> String {
    let (states, scalars, measures) = (rule.states(), rule.scalars(), rule.measures());
    let mut fields: Vec<&str> = element_fields(&states).iter().map(|&(name, _)| name).collect();
    if rule.factored() {
        fields.push("variance");
    }
    let (four, by_four) = ("vec4<f32>", "mat4x4<f32>");
    let wgsl = rule.wgsl();
    let mut sources = vec![
        wgsl.into_owned(),
        number_struct("Hyper", "f32", &names(&rule.hyperparameters())),
        number_struct("Element", four, &fields),
        packed_struct("Scalars", "", "f32", four, &names(&scalars)),
    ];
    if scalars.is_empty() {
        sources.push(NO_ADVANCE.to_owned());
    }
    if !measures.is_empty() {
        sources.push(packed_struct("Measured", "_measured", four, by_four, &measures));
        sources.push(packed_struct("TensorState", "_tensor_state", four, by_four, &names(&rule.tensor_states())));
    }
    let slot = if group_lrs == 0 { &without("// SCHEDULED", RULE) } else { RULE };
    let slot = slot.replace("GROUP_LRS", &group_lrs.to_string());
    sources.extend([fragment_for(rule, &slot), CONTROL.to_owned()]);
    sources.join("\n")
}

/// The streams of gradients, parameters and states, and the functions that read all but the first.
fn elements(rule: &dyn Rule, access: Access, form: Form) -> String {
    let mut streams = stream("grad", GRAD_STREAM, Access::Read, form);
    let mut words = String::new();
    let mut reads = String::new();
    let mut casts = String::new();
    for (name, number) in element_fields(&rule.states()) {
        streams.push_str(&stream(name, number, access, form));
        // Writing to a String cannot fail.
        let _ = writeln!(words, "    {name}: vec4<u32>,");
        let _ = writeln!(reads, "        load_{name}(element),");
        let _ = writeln!(casts, "        bitcast<vec4<f32>>(words.{name}),");
    }
    if rule.factored() {
        casts.push_str("        vec4<f32>(),\n");
    }
    format!(
        "{streams}\nstruct Words {{\n{words}}}\n\n\
         fn read_words(element: u32) -> Words {{\n    return Words(\n{reads}    );\n}}\n\n\
         fn element_of(words: Words) -> Element {{\n    return Element(\n{casts}    );\n}}\n"
    )
}

/// The accessors of the table of tensors, for rules that measure.
fn segments(rule: &dyn Rule, access: &str) -> String {
    if rule.measures().is_empty() { String::new() } else { SEGMENTS.replace("ACCESS", access) }
}

/// The accessors of the table of factors, for rules that keep any.
fn factors(rule: &dyn Rule, access: &str) -> String {
    if rule.factored() { FACTORS.replace("ACCESS", access) } else { String::new() }
}

/// Clipping by value, which `clip` says whether to do.
fn value(clip: &ClipForm) -> &'static str {
    if clip.value.is_some() { VALUE } else { NO_VALUE }
}

/// The partials of the norm, and what its order makes of elements.
fn partial(norm: Norm) -> String {
    let of_order = match norm {
        Norm::One => include_str!("../../../shaders/norm/one.wgsl"),
        Norm::Two => include_str!("../../../shaders/norm/two.wgsl"),
        Norm::Infinity => include_str!("../../../shaders/norm/infinity.wgsl"),
        Norm::P(p) => {
            return format!(
                "const NORM_TYPE: f32 = {p:?};\n{}\n{PARTIAL}",
                include_str!("../../../shaders/norm/p.wgsl")
            );
        }
    };
    [of_order, PARTIAL].join("\n")
}

/// The update kernels around a rule.
pub(crate) fn update(rule: &dyn Rule, clip: &ClipForm, form: Form) -> String {
    let apply = if clip.segments.is_some() { "clipped_rule" } else { "rule" };
    update_by(rule, apply, value(clip), form)
}

/// The kernels of a further pass, which takes what it is given as it is.
pub(crate) fn pass(rule: &dyn Rule, pass: &str, form: Form) -> String {
    update_by(rule, pass, NO_VALUE, form)
}

/// The update kernels; `apply` names the function they apply.
fn update_by(rule: &dyn Rule, apply: &str, value: &str, form: Form) -> String {
    let mut writes = String::new();
    for (name, _) in element_fields(&rule.states()) {
        let updated = format!("bitcast<vec4<u32>>(updated.{name})");
        let _ = writeln!(writes, "    store_{name}(element, select(words.{name}, {updated}, live), live);");
    }
    let update = fragment_for(rule, UPDATE);
    let sources = [
        rule_and_types_with(rule, form.group_lrs),
        elements(rule, Access::ReadWrite, form),
        format!("fn write_words(element: u32, words: Words, updated: Element, live: vec4<bool>) {{\n{writes}}}\n"),
        format!(
            "fn apply(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {{\n    \
             return {apply}(old, grad, hyper, step);\n}}\n"
        ),
        next_words(rule),
        CHUNK.to_owned(),
        fragment_for(rule, LANES),
        fragment_for(rule, options(form)),
        learning_rates(form.group_lrs).to_owned(),
        segments(rule, "read"),
        factors(rule, "read"),
        value.to_owned(),
        if form.options.may_be_frozen() { update } else { without("// FROZEN", &update) },
    ];
    sources.join("\n")
}

/// The function that gives the words of the control block that a bare step changes.
fn next_words(rule: &dyn Rule) -> String {
    let mut words = vec![
        (offset_of!(ControlBlock, step), "t".to_owned()),
        (offset_of!(ControlBlock, skipped), "control.skipped".to_owned()),
        (offset_of!(ControlBlock, lr), "bitcast<u32>(slot.head.lr)".to_owned()),
    ];
    let bits = |number: String| format!("bitcast<u32>({number})");
    let lanes = |numbers: &'static str, offset: usize, count: usize| {
        let lanes = ["x", "y", "z", "w"].into_iter().zip((offset..).step_by(4)).take(count);
        lanes.map(move |(lane, offset)| (offset, bits(format!("{numbers}.{lane}"))))
    };
    let betas = rule.bias_corrected().len();
    words.extend(lanes("correction", offset_of!(ControlBlock, bias_correction), betas));
    let first_upcoming = 1 + words.len();
    let upcoming = (offset_of!(ControlBlock, upcoming_bias_correction)..).step_by(4).take(betas);
    words.extend(upcoming.map(|offset| (offset, bits("upcoming".to_owned()))));
    words.extend(lanes("carried", offset_of!(ControlBlock, scalars), rule.scalars().len()));
    let mut selects = String::new();
    for ((offset, word), number) in words.iter().zip(1..) {
        let place = offset / 4;
        let _ = writeln!(selects, "    word = select(word, vec2<u32>({place}u, {word}), number == {number}u);");
    }
    format!(
        "const FIRST_NONFINITE: u32 = {first_nonfinite}u;\nconst NEXT_WORDS: u32 = {count}u;\n\
         // Number of the first word for a bias correction of the step to come: each lane knows that of its own.\n\
         const FIRST_UPCOMING: u32 = {first_upcoming}u;\n\n\
         fn next_word(\n    number: u32,\n    t: u32,\n    correction: vec4<f32>,\n    upcoming: f32,\n    \
         scalars: Scalars,\n) -> vec2<u32> {{\n    \
         let carried = pack(scalars);\n    \
         var word = vec2<u32>(FIRST_NONFINITE + ((t + 1u) & 1u), NONE);\n\
         {selects}    return word;\n}}\n",
        first_nonfinite = offset_of!(ControlBlock, first_nonfinite) / 4,
        count = words.len() + 1,
    )
}

/// The kernel that sums what the rule measures over each item.
pub(crate) fn measure(rule: &dyn Rule, clip: &ClipForm, form: Form) -> String {
    let parts = [&segments(rule, "read_write"), value(clip), MEASURE].join("\n");
    items(rule, form, &parts)
}

/// The kernel that sums what a step is about to do over each item.
pub(crate) fn observe(rule: &dyn Rule, clip: &ClipForm, form: Form) -> String {
    let seen = match clip {
        ClipForm { segments: Some(_), .. } => include_str!("../../../shaders/seen/segments.wgsl").to_owned(),
        ClipForm { value: Some(_), .. } => [include_str!("../../../shaders/seen/value.wgsl"), VALUE].join("\n"),
        _ => include_str!("../../../shaders/seen/none.wgsl").to_owned(),
    };
    let count = if rule.counts() { "" } else { NO_COUNT };
    let parts = [&segments(rule, "read"), &seen, count, OBSERVED, OBSERVE].join("\n");
    items(rule, form, &parts)
}

/// The kernel that sums over items what `parts` say.
fn items(rule: &dyn Rule, form: Form, parts: &str) -> String {
    let sources = [
        &rule_and_types_with(rule, form.group_lrs),
        &elements(rule, Access::Read, form),
        CHUNK,
        &fragment_for(rule, LANES),
        &fragment_for(rule, options(form)),
        learning_rates(form.group_lrs),
        &factors(rule, "read"),
        REDUCE,
        parts,
        &fragment_for(rule, ITEMS),
    ];
    sources.join("\n")
}

/// The kernel that adds the observed items of each segment up.
pub(crate) fn totals() -> String {
    [CONTROL, REDUCE, OBSERVED, TOTALS].join("\n")
}

/// The kernel that sums squares over pieces of lines.
pub(crate) fn lines(rule: &dyn Rule, clip: &ClipForm) -> String {
    [LINES, value(clip), CONTROL, &[LANES, GROUPS].map(without_measured).concat(), &factors(rule, "read_write")]
        .join("\n")
}

/// The kernel that adds the pieces of each line up.
pub(crate) fn settle_lines(rule: &dyn Rule) -> String {
    [&rule_and_types(rule), &factors(rule, "read_write"), SETTLE_LINES].join("\n")
}

/// The kernel that takes the means of the rows' factors.
pub(crate) fn mean_rows(rule: &dyn Rule) -> String {
    [&rule_and_types(rule), &factors(rule, "read_write"), REDUCE, MEAN_ROWS].join("\n")
}

/// The kernel that adds the sums of each tensor up.
pub(crate) fn settle(rule: &dyn Rule) -> String {
    let settle = if rule.tensor_states().is_empty() { NO_SETTLE } else { "" };
    [&rule_and_types(rule), settle, &segments(rule, "read_write"), REDUCE, SETTLE].join("\n")
}

/// The kernel that sums for the norm and looks for non-finite gradients.
pub(crate) fn norm(norm: Norm, form: Form) -> String {
    let grad = stream("grad", GRAD_STREAM, Access::Read, form);
    let options = [LANES, options(form)].map(without_measured).concat();
    [NORM, &lanes(64), &grad, &partial(norm), CONTROL, CHUNK, &options].join("\n")
}

/// The kernel that decides on a step.
pub(crate) fn finish(rule: &dyn Rule, clip: &ClipForm) -> String {
    let max_norm = if clip.window.is_some() { PERCENTILE } else { NO_PERCENTILE };
    [&rule_and_types(rule), &lanes(256), FINISH, &partial(clip.norm), max_norm].join("\n")
}

/// Lanes of a workgroup that reduces partials.
fn lanes(count: u32) -> String {
    format!("const LANES: u32 = {count}u;\n")
}

/// Refuses a rule whose interface cannot be composed into a kernel.
pub(crate) fn check_interface(rule: &dyn Rule) -> Result<(), Error> {
    let problem = |problem: String| Err(Error::RuleInterface { rule: rule.name().to_owned(), problem });
    let (states, hyperparameters) = (rule.states(), rule.hyperparameters());
    let max_states = crate::gpu::chunking::MAX_STREAMS - GRAD_STREAM - 1;
    if states.len() > max_states {
        return problem(format!("it has {} states; at most {max_states} are possible", states.len()));
    }
    if hyperparameters.len() > crate::gpu::step_uniforms::MAX_HYPERPARAMETERS {
        let (given, max) = (hyperparameters.len(), crate::gpu::step_uniforms::MAX_HYPERPARAMETERS);
        return problem(format!("it has {given} hyperparameters; at most {max} are possible"));
    }
    if rule.bias_corrected().len() > 4 {
        return problem(format!("it wants {} bias corrections; at most 4 are possible", rule.bias_corrected().len()));
    }
    let (scalars, measures, tensor_states) = (rule.scalars(), rule.measures(), rule.tensor_states());
    for (what, count) in [("scalars", scalars.len()), ("sums", measures.len()), ("tensor states", tensor_states.len())]
    {
        if count > 4 {
            return problem(format!("it has {count} {what}; at most 4 are possible"));
        }
    }
    if measures.is_empty() && !tensor_states.is_empty() {
        let remedy = "add some in Rule::measures";
        return problem(format!("it has tensor states but no sums to bring them forward with; {remedy}"));
    }
    if rule.factored() && (measures.is_empty() || rule.segmentation() != Segmentation::Tensors) {
        return problem("it is factored but has no sums over tensors; add some in Rule::measures".to_owned());
    }
    for names in [&states, &names(&hyperparameters), &names(&scalars), &measures, &names(&tensor_states)] {
        for (i, name) in names.iter().enumerate() {
            let mut letters = name.chars();
            let starts = letters.next().is_some_and(|letter| letter.is_ascii_lowercase());
            if !starts || !letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
            {
                return problem(format!("{name:?} is no name for a WGSL field; allowed: a-z, then a-z, 0-9 and _"));
            }
            let own = ["param", "grad"].contains(name) || (rule.factored() && *name == "variance");
            if names[..i].contains(name) || own {
                return problem(format!(
                    "the name {name:?} is taken; every state, hyperparameter, scalar and sum needs its own"
                ));
            }
        }
    }
    if let Some((name, value)) = rule.hyperparameters().iter().find(|(_, value)| !value.is_finite()) {
        return problem(format!("the hyperparameter {name:?} is {value}; it must be finite in f32"));
    }
    Ok(())
}

/// Compiles the kernel on the host, so that a mistake in a rule's WGSL is an error and not wgpu's panic.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn check_source(rule: &dyn Rule, source: &str) -> Result<(), Error> {
    use naga::back::pipeline_constants::process_overrides;
    use naga::{ShaderStage, front::wgsl, valid};

    let problem = |message: String| Error::Shader { rule: rule.name().to_owned(), message };
    let module =
        wgsl::parse_str(source).map_err(|error| problem(error.emit_to_string_with_path(source, "rule.wgsl")))?;
    let info = valid::Validator::new(valid::ValidationFlags::all(), valid::Capabilities::empty())
        .validate(&module)
        .map_err(|error| problem(error.emit_to_string_with_path(source, "rule.wgsl")))?;
    let last_binding = STREAM_BINDING + 1 + rule.states().len() as u32;
    let known = |group: u32, binding: u32| match group {
        0 => {
            let table = (binding == SEGMENTS_BINDING && !rule.measures().is_empty())
                || (binding == FACTORS_BINDING && rule.factored())
                || (binding == OBSERVED_BINDING && source.contains(OBSERVED));
            table || binding <= last_binding
        }
        group => group == 1 && binding <= 1,
    };
    let strange = module
        .global_variables
        .iter()
        .find(|(_, variable)| variable.binding.is_some_and(|at| !known(at.group, at.binding)));
    if let Some((_, variable)) = strange {
        let name = variable.name.as_deref().unwrap_or_default();
        return Err(problem(format!("it binds {name:?}; a rule is given everything it needs through its arguments")));
    }
    let constants = rule.constants();
    for (name, value) in &constants {
        let declared =
            module.overrides.iter().any(|(_, known)| known.name.as_deref() == Some(*name) && known.id.is_none());
        if !declared {
            return Err(problem(format!("it declares no `override {name}` without @id, which Rule::constants names")));
        }
        if !value.is_finite() {
            return Err(problem(format!(
                "Rule::constants gives `override {name}` the value {value}; it must be finite"
            )));
        }
    }
    let constants = constants.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for entry in &module.entry_points {
        process_overrides(&module, &info, Some((ShaderStage::Compute, &entry.name)), &constants)
            .map_err(|error| problem(format!("an `override` has no usable value in Rule::constants: {error}")))?;
    }
    Ok(())
}

/// In browsers the compiler's own message goes to the device's error handler.
#[cfg(target_arch = "wasm32")]
pub(crate) fn check_source(_: &dyn Rule, _: &str) -> Result<(), Error> {
    Ok(())
}
