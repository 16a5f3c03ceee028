//! The WGSL that depends on a rule's names and on the storage of its streams.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::coded::{self, BlockScales, is_scale};
use super::variant::{GradBinding, Variant};
use crate::params::SeenParams;
use crate::plan::{Pass, StepKind, StepPlan};
use crate::rule::Reduction;
use crate::storage::{Access, Dtype, MAX_STREAMS, StreamSpec};
use crate::transform::EVAL;

/// Binding of the first stream. The tables of segments and of factors follow the last.
const STREAM_BINDING: usize = 4;

/// The types that a rule's functions name.
pub(super) fn interface(plan: &StepPlan) -> String {
    let (rule, spec) = (&plan.rule, plan.rule.spec());
    let (four, by_four) = ("vec4<f32>", "mat4x4<f32>");
    let mut fields = vec!["param"];
    fields.extend(spec.states.iter().map(|state| &*state.name));
    if rule.factored().is_some() {
        fields.push("variance");
    }
    let hyperparameters: Vec<&str> = spec.hyperparameters.iter().map(|(name, _)| &**name).collect();
    let sums = rule.reduction().map(Reduction::sums).unwrap_or_default();
    let mut text = number_struct("Hyper", "f32", &hyperparameters);
    text += &number_struct("Element", four, &fields);
    let states: Vec<&str> = rule.transform_states().iter().map(|state| &*state.name).collect();
    text += &number_struct("TransformStates", four, &states);
    text += &packed_struct("ScalarState", "scalar_state", "f32", four, &names(&rule.initial_scalars()));
    text += &packed_struct("SegmentSums", "segment_sums", four, by_four, &sums);
    text += &packed_struct("TensorState", "tensor_state", four, by_four, &names(&rule.initial_tensor_state()));
    let group_lr_quads = plan.groups.lr_quads();
    if group_lr_quads > 0 {
        let _ = writeln!(text, "const GROUP_LR_QUADS: u32 = {group_lr_quads}u;");
    }
    text
}

fn names<'a>(values: &[(&'a str, f32)]) -> Vec<&'a str> {
    values.iter().map(|&(name, _)| name).collect()
}

/// A struct of `number`s. WGSL allows no empty struct: without members it has an unused one.
fn number_struct(name: &str, number: &str, members: &[&str]) -> String {
    let members = if members.is_empty() { &["unused"] } else { members };
    let separator = format!(": {number},\n    ");
    format!("struct {name} {{\n    {}: {number},\n}}\n\n", members.join(&separator))
}

/// A struct of up to four `number`s, and its conversions from and to `packed`, which holds four.
fn packed_struct(name: &str, suffix: &str, number: &str, packed: &str, members: &[&str]) -> String {
    let unpacked: Vec<String> = (0..members.len().max(1)).map(|i| format!("numbers[{i}]")).collect();
    let mut fields: Vec<String> = members.iter().map(|member| format!("fields.{member}")).collect();
    fields.resize(4, format!("{number}()"));
    let (unpacked, fields) = (unpacked.join(", "), fields.join(", "));
    format!(
        "{}fn unpack_{suffix}(numbers: {packed}) -> {name} {{\n    return {name}({unpacked});\n}}\n\n\
         fn pack_{suffix}(fields: {name}) -> {packed} {{\n    return {packed}({fields});\n}}\n\n",
        number_struct(name, number, members)
    )
}

/// The streams that a kernel binds, with their numbers in the chunk's shifts. With f32 moments, no stream has 8 bits.
pub(crate) fn bound_streams(plan: &StepPlan, pass: Pass, f32_moments: bool) -> Vec<(usize, StreamSpec)> {
    let mut streams = streams_of(plan, pass);
    if f32_moments {
        streams.retain(|(_, stream)| !is_scale(plan, stream));
        for (_, stream) in streams.iter_mut().filter(|(_, stream)| stream.codes.is_some()) {
            (stream.dtype, stream.codes) = (Dtype::F32, None);
        }
    }
    streams
}

fn streams_of(plan: &StepPlan, pass: Pass) -> Vec<(usize, StreamSpec)> {
    let kind = match pass {
        Pass::AuxiliaryUpdate(name) => StepKind::Auxiliary(name),
        Pass::Accumulate => StepKind::Accumulate,
        Pass::RestoreParams => StepKind::Restore,
        pass if pass.is_of_sam() => StepKind::Perturb,
        _ => StepKind::Decided,
    };
    let streams = plan.streams(kind).into_iter().enumerate();
    match pass {
        Pass::GlobalNorm | Pass::FactorPartials => streams.filter(|(_, stream)| stream.name == "grad").collect(),
        // Sums go over what the rule reads.
        Pass::SegmentReduce | Pass::MetricsReduce => streams
            .filter(|(_, stream)| plan.rule.transform_states().iter().all(|state| state.name != stream.name))
            .map(|(number, stream)| (number, StreamSpec { access: Access::Read, ..stream }))
            .collect(),
        Pass::Update | Pass::UpdateSinglePass | Pass::AuxiliaryUpdate(_) | Pass::Perturb => streams.collect(),
        Pass::Project => streams.take(1).collect(),
        // The accumulator takes the place of the parameters.
        Pass::Accumulate | Pass::RestoreParams => streams.take(2).collect(),
        Pass::SamNorm => {
            let read = |(number, stream)| (number, StreamSpec { access: Access::Read, ..stream });
            let is_needed = |(_, stream): &(usize, StreamSpec)| stream.name == "grad" || plan.scales_by_params();
            streams.filter(is_needed).map(read).collect()
        }
        Pass::Decide
        | Pass::RowSteps
        | Pass::TensorSteps
        | Pass::FactorUpdate
        | Pass::FactorRowMean
        | Pass::SegmentUpdate
        | Pass::MetricsTotal
        | Pass::SamFactors => Vec::new(),
    }
}

/// Whether the stream completes the parameters.
fn is_companion(plan: &StepPlan, stream: &StreamSpec) -> bool {
    plan.settings.precision.params.companion().is_some_and(|companion| companion.name == stream.name)
}

/// Declarations and accessors of the streams; conversions between their words and `Element`.
pub(super) fn streams(plan: &StepPlan, pass: Pass, variant: Variant) -> String {
    let streams = bound_streams(plan, pass, variant.f32_moments);
    let mut imports = BTreeSet::from(["import package::device::chunk::{chunk};\n".to_owned()]);
    let mut text = String::new();
    let companion = streams.iter().map(|(_, stream)| stream).find(|stream| is_companion(plan, stream));
    for (number, stream) in &streams {
        if let Some((map, scale)) = &stream.codes {
            imports.extend(map.read_imports().map(|import| format!("import package::storage::{import};\n")));
            let of_scale = streams.iter().find(|(_, stream)| stream.name == *scale);
            let numbers = [*number, of_scale.map_or(0, |(number, _)| *number)];
            let places = numbers.map(|number| (STREAM_BINDING + number, shift_of(number, variant)));
            text += &coded::accessors(stream, (*map, scale), &places);
        }
        if stream.codes.is_some() || is_scale(plan, stream) {
            continue;
        }
        let format = stream.dtype.format();
        let functions = format.functions().join(", ");
        imports.insert(format!("import package::storage::{}::{{{functions}}};\n", format.name()));
        let of_seen = companion.is_some() && stream.name == "param";
        text += &accessors(stream, if of_seen { "seen_param" } else { &stream.name }, *number, variant);
    }
    let of_elements = |stream: &&StreamSpec| stream.name != "grad" && !is_scale(plan, stream);
    let elements: Vec<&StreamSpec> = streams.iter().map(|(_, stream)| stream).filter(of_elements).collect();
    let is_of_states =
        !matches!(pass, Pass::Accumulate | Pass::SamNorm | Pass::Perturb | Pass::RestoreParams | Pass::Project);
    if companion.is_some() {
        let imported = plan.settings.precision.params.imports().iter();
        imports.extend(imported.map(|import| format!("import package::storage::{import};\n")));
    }
    if let Some(companion) = companion.filter(|_| !is_of_states) {
        let format = plan.settings.precision.params;
        let (rest, joined) =
            (format!("load_{}(element)", companion.name), format.join("load_seen_param(element)", "rest"));
        let _ = writeln!(
            text,
            "fn load_param(element: u32) -> vec4<u32> {{\n    let rest = {rest};\n    return {joined};\n}}\n"
        );
        if pass == Pass::Perturb {
            let store = format!("store_seen_param(element, {}, is_active);", format.seen("bits"));
            let signature = "fn store_param(element: u32, bits: vec4<u32>, is_active: vec4<bool>)";
            let _ = writeln!(text, "{signature} {{\n    {store}\n}}\n");
        }
    }
    if !elements.is_empty() && is_of_states {
        imports.insert("import interface::{Element, TransformStates};\n".to_owned());
        if plan.settings.precision.rounding.seed().is_some() {
            imports.insert("import package::random::{further_bits, random_bits};\n".to_owned());
            imports.insert("import package::storage::bf16::{bf16_stochastic};\n".to_owned());
        }
        imports.extend(coded::write_imports(plan, pass, variant));
        text += &words(plan, pass, &elements);
    }
    imports.into_iter().collect::<String>() + "\n" + &text
}

/// The chunk's shift in a stream.
fn shift_of(number: usize, variant: Variant) -> String {
    let shift = format!("chunk.shifts[{}].{}", number / 4, ["x", "y", "z", "w"][number % 4]);
    if variant.shifted { shift } else { "0u".to_owned() }
}

/// The declaration of one stream, unless another binding contains it, `load_function`, and `store_function` where the kernel
/// writes it. Numbers are f32 bits.
fn accessors(
    StreamSpec { name, dtype, access, .. }: &StreamSpec,
    function: &str,
    number: usize,
    variant: Variant,
) -> String {
    let (format, binding) = (dtype.format(), STREAM_BINDING + number);
    let grads = if name == "grad" { variant.grads } else { GradBinding::Own };
    let mode = if *access == Access::Read && grads == GradBinding::Own { "read" } else { "read_write" };
    let element_type = if variant.aligned { format.quad_type() } else { "u32" };
    let shift = shift_of(number, variant);
    let words = if grads == GradBinding::WithParams { "param_words".to_owned() } else { format!("{name}_words") };
    let quad = format!("{words}[element / 4u + {shift} / 4u]");
    let at = format!("let at = element + {shift};\n    ");
    let (load, store) = if variant.aligned {
        (format!("return {};", format.load_quad(&quad)), format.store_quad(&quad))
    } else {
        let store = format!("{at}{}", format.store_each(&words, "at"));
        // Where kernels write 16-bit numbers, `at` is even. A third word would be that of another lane.
        let pair = format!("vec2<u32>({words}[at / 2u], {words}[at / 2u + 1u])");
        let is_written_half = *access == Access::ReadWrite && dtype.bytes(1) == 2;
        let load = if is_written_half { format.load_quad(&pair) } else { format.load_each(&words, "at") };
        (format!("{at}return {load};"), store)
    };
    let mut text = String::new();
    if grads != GradBinding::WithParams {
        let _ = writeln!(text, "@group(0) @binding({binding}) var<storage, {mode}> {words}: array<{element_type}>;\n");
    }
    let _ = writeln!(text, "fn load_{function}(element: u32) -> vec4<u32> {{\n    {load}\n}}\n");
    if *access == Access::ReadWrite {
        let _ = writeln!(
            text,
            "fn store_{function}(element: u32, bits: vec4<u32>, is_active: vec4<bool>) {{\n    {store}\n}}\n"
        );
    }
    text
}

/// `Words`, the f32 bits of parameter and states, and its conversions.
fn words(plan: &StepPlan, pass: Pass, streams: &[&StreamSpec]) -> String {
    let (mut members, mut reads, mut writes) = (String::new(), String::new(), String::new());
    let mut blocks = BlockScales::default();
    let precision = &plan.settings.precision;
    let companion = precision.params.companion().filter(|companion| streams.iter().any(|s| s.name == companion.name));
    let is_stochastic = precision.rounding.seed().is_some();
    let rounded = |bits: String, dtype: Dtype, number: usize| {
        if is_stochastic && dtype == Dtype::Bf16 {
            format!("bf16_stochastic({bits}, further_bits(random, {number}u))")
        } else {
            bits
        }
    };
    let of_transforms: Vec<&str> = plan.rule.transform_states().iter().map(|state| &*state.name).collect();
    let is_temporary = StepPlan::written_params(pass) == SeenParams::Alone;
    for (number, StreamSpec { name, access, dtype, codes }) in streams.iter().enumerate() {
        let _ = writeln!(members, "    {name}: vec4<u32>,");
        let is_rest = companion.is_some_and(|companion| companion.name == name);
        let read = match companion {
            Some(_) if is_rest => "rest".to_owned(),
            Some(_) if name == "param" => precision.params.join("load_seen_param(element)", "rest"),
            _ => format!("load_{name}(element)"),
        };
        let _ = writeln!(reads, "        {read},");
        // A companion stays while others have the place of the parameters.
        let is_kept = is_rest && is_temporary;
        if *access == Access::ReadWrite && !is_kept {
            let updated = if of_transforms.contains(&name.as_str()) { "states" } else { "updated" };
            let updated = if is_rest { "updated.param".to_owned() } else { format!("{updated}.{name}") };
            let updated = format!("bitcast<vec4<u32>>({updated})");
            if let Some(codes) = codes {
                if !is_temporary {
                    let random = is_stochastic.then(|| format!("further_bits(random, {number}u)"));
                    writes += &blocks.write(name, codes, &updated, random.as_deref());
                }
                continue;
            }
            let (function, is_param) =
                (if companion.is_some() && name == "param" { "seen_param" } else { name }, name == "param");
            let is_rounded_when_stored = is_param && (companion.is_some() || is_temporary);
            let bits = if is_rest {
                precision.params.rest(&updated)
            } else if is_rounded_when_stored {
                updated
            } else {
                rounded(updated, *dtype, number)
            };
            let bits = format!("select(words.{name}, {bits}, is_active)");
            let bits = if companion.is_some() && is_param { precision.params.seen(&bits) } else { bits };
            let _ = writeln!(writes, "    store_{function}(element, {bits}, is_active);");
        }
    }
    let rest =
        companion.map_or_else(String::new, |companion| format!("    let rest = load_{}(element);\n", companion.name));
    let mut casts = "        bitcast<vec4<f32>>(words.param),\n".to_owned();
    for state in &plan.rule.spec().states {
        let name = &state.name;
        let cast = if state.present { format!("bitcast<vec4<f32>>(words.{name})") } else { "vec4<f32>()".to_owned() };
        let _ = writeln!(casts, "        {cast},");
    }
    if plan.rule.factored().is_some() {
        casts += "        vec4<f32>(),\n";
    }
    let mut text = format!(
        "struct Words {{\n{members}}}\n\n\
         fn read_words(element: u32) -> Words {{\n{rest}    return Words(\n{reads}    );\n}}\n\n\
         fn element_of(words: Words) -> Element {{\n    return Element(\n{casts}    );\n}}\n\n"
    );
    text += &blocks.functions();
    if !writes.is_empty() {
        if is_stochastic {
            let elements = "vec4<u32>(chunk.start + element) + vec4<u32>(0u, 1u, 2u, 3u)";
            writes.insert_str(0, &format!("    let random = random_bits(chunk.seed, t, {elements});\n"));
        }
        let mut casts: Vec<String> =
            of_transforms.iter().map(|name| format!("bitcast<vec4<f32>>(words.{name})")).collect();
        if casts.is_empty() {
            casts.push("vec4<f32>()".to_owned());
        }
        let _ = write!(
            text,
            "fn transform_states_of(words: Words) -> TransformStates {{\n    return TransformStates({});\n}}\n\n\
             fn write_words(\n    element: u32,\n    words: Words,\n    updated: Element,\n    states: TransformStates,\n    \
             is_active: vec4<bool>,\n    t: u32,\n) {{\n{writes}}}\n",
            casts.join(", ")
        );
    }
    text
}

/// The table of segments.
pub(super) fn segment_table(writes: bool) -> String {
    table("segments", STREAM_BINDING + MAX_STREAMS, "vec4<u32>", writes)
}

/// The table of factors.
pub(super) fn factor_table(writes: bool) -> String {
    table("factors", STREAM_BINDING + MAX_STREAMS + 1, "u32", writes)
}

/// The table of rows, behind the table of metrics.
pub(super) fn row_table(writes: bool) -> String {
    table("row_table", STREAM_BINDING + MAX_STREAMS + 3, "u32", writes)
}

/// The table of the steps of each tensor, behind the table of rows.
pub(super) fn tensor_step_table(writes: bool) -> String {
    let fields = "    bias_correction: vec4<f32>,\n    scalar_state: vec4<f32>,\n    t: u32,\n";
    let padding = "    padding0: u32,\n    padding1: u32,\n    padding2: u32,\n";
    let table = table("tensor_step_table", STREAM_BINDING + MAX_STREAMS + 4, "TensorStep", writes);
    format!("struct TensorStep {{\n{fields}{padding}}}\n\n{table}")
}

fn table(name: &str, binding: usize, element: &str, writes: bool) -> String {
    let mode = if writes { "read_write" } else { "read" };
    format!("@group(0) @binding({binding}) var<storage, {mode}> {name}: array<{element}>;\n")
}

/// Takes lanes of one result and the others of another; and the first step's number, 0 before any step.
pub(super) fn applied_lanes(plan: &StepPlan, is_auxiliary: bool) -> String {
    let rule = &plan.rule;
    let element = rule.spec().states.iter().map(|state| format!("element.{}", state.name));
    let element = element.chain(["element.param".to_owned()]);
    let states = rule.transform_states().iter().map(|state| format!("states.{}", state.name));
    let mut lanes = String::new();
    for field in element.chain(states) {
        let _ = writeln!(lanes, "    applied.{field} = select(first.{field}, second.{field}, is_second);");
    }
    format!(
        "import applied::{{Applied}};\n\nconst FIRST_STEP: u32 = {}u;\n\n\
         fn select_applied(first: Applied, second: Applied, is_second: vec4<bool>) -> Applied {{\n    \
         var applied = first;\n{lanes}    return applied;\n}}\n",
        u32::from(!is_auxiliary)
    )
}

/// Applies an auxiliary update in place of the rule.
pub(super) fn apply(plan: &StepPlan, auxiliary: &str) -> String {
    let is_average = plan.rule.average().is_some() && auxiliary == EVAL;
    let (import, updated) = if is_average {
        let correction =
            plan.rule.average_correction().map_or("1.0".to_owned(), |i| format!("step.bias_correction[{i}]"));
        let call = format!("averaged(states, old.param, {correction}, step.t)");
        ("average::{averaged}".to_owned(), format!("var updated = old;\n    updated.param = {call};"))
    } else {
        (format!("rule::{{{auxiliary}}}"), format!("let updated = {auxiliary}(old, grad, hyper, step);"))
    };
    format!(
        "import package::rule::step::{{StepScalars}};\n\
         import interface::{{Element, Hyper, TransformStates}};\n\
         import {import};\n\n\
         struct Applied {{\n    element: Element,\n    states: TransformStates,\n}}\n\n\
         fn apply(old: Element, states: TransformStates, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Applied {{\n    \
         {updated}\n    return Applied(updated, states);\n}}\n"
    )
}
