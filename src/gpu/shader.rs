use std::fmt::Write;

use crate::Error;
use crate::rule::Rule;

const CONTROL: &str = include_str!("../../shaders/control.wgsl");
const RULE: &str = include_str!("../../shaders/rule.wgsl");
const CHUNK: &str = include_str!("../../shaders/chunk.wgsl");
const GROUPS: &str = include_str!("../../shaders/groups.wgsl");
const PARTIAL: &str = include_str!("../../shaders/partial.wgsl");
const NORM: &str = include_str!("../../shaders/norm.wgsl");
const FINISH: &str = include_str!("../../shaders/finish.wgsl");
const UPDATE: &str = include_str!("../../shaders/update.wgsl");
const F32: &str = include_str!("../../shaders/storage/f32.wgsl");
const F32_UNALIGNED: &str = include_str!("../../shaders/storage/f32_unaligned.wgsl");

/// Binding of the first stream; the streams are parameters, gradients, then the states.
pub(crate) const STREAM_BINDING: u32 = 4;
/// Number of the gradients among the streams.
pub(crate) const GRAD_STREAM: usize = 1;

/// For rules that carry no scalars.
const NO_ADVANCE: &str = "\
fn advance(old: Scalars, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> Scalars {
    return old;
}
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// The declaration and the accessors of one stream.
fn stream(name: &str, number: usize, access: Access, aligned: bool) -> String {
    let fragment = if aligned { F32 } else { F32_UNALIGNED };
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
        .replace("SHIFT", &shift)
}

/// Names of the read-write streams: parameters and states, with their stream numbers.
fn element_fields<'a>(states: &[&'a str]) -> Vec<(&'a str, usize)> {
    let states = states.iter().enumerate().map(|(i, &state)| (state, GRAD_STREAM + 1 + i));
    std::iter::once(("param", 0)).chain(states).collect()
}

/// A struct of numbers; one without members gets one, as WGSL demands.
fn number_struct(name: &str, members: &[&str]) -> String {
    let members = if members.is_empty() { &["unused"] } else { members };
    format!("struct {name} {{\n    {}: f32,\n}}\n", members.join(": f32,\n    "))
}

/// A rule and the types it names. It comes first, so that its line numbers are the user's own.
fn rule_and_types(rule: &dyn Rule) -> String {
    let (hyperparameters, states, scalars) = (rule.hyperparameters(), rule.states(), rule.scalars());
    let hyperparameters: Vec<&str> = hyperparameters.iter().map(|&(name, _)| name).collect();
    let scalars: Vec<&str> = scalars.iter().map(|&(name, _)| name).collect();
    let fields: Vec<&str> = element_fields(&states).iter().map(|&(name, _)| name).collect();
    let lanes = ["x", "y", "z", "w"];
    let unpacked: Vec<String> = lanes[..scalars.len().max(1)].iter().map(|lane| format!("words.{lane}")).collect();
    let mut packed: Vec<String> = scalars.iter().map(|name| format!("scalars.{name}")).collect();
    packed.resize(4, "0.0".to_owned());
    let conversions = format!(
        "fn unpack(words: vec4<f32>) -> Scalars {{\n    return Scalars({});\n}}\n\n\
         fn pack(scalars: Scalars) -> vec4<f32> {{\n    return vec4<f32>({});\n}}\n",
        unpacked.join(", "),
        packed.join(", ")
    );
    let wgsl = rule.wgsl();
    let sources = [
        wgsl.as_ref(),
        &number_struct("Hyper", &hyperparameters),
        &number_struct("Scalars", &scalars),
        &format!("struct Element {{\n    {}: vec4<f32>,\n}}\n", fields.join(": vec4<f32>,\n    ")),
        &conversions,
        if scalars.is_empty() { NO_ADVANCE } else { "" },
        RULE,
        CONTROL,
    ];
    sources.join("\n")
}

/// The update kernels around a rule; `apply` names the function they apply: `rule`, or a further pass.
pub(crate) fn update(rule: &dyn Rule, apply: &str, aligned: bool) -> String {
    let mut streams = stream("grad", GRAD_STREAM, Access::Read, aligned);
    let mut words = String::new();
    let mut reads = String::new();
    let mut casts = String::new();
    let mut writes = String::new();
    for (name, number) in element_fields(&rule.states()) {
        streams.push_str(&stream(name, number, Access::ReadWrite, aligned));
        // Writing to a String cannot fail.
        let _ = writeln!(words, "    {name}: vec4<u32>,");
        let _ = writeln!(reads, "        load_{name}(element),");
        let _ = writeln!(casts, "        bitcast<vec4<f32>>(words.{name}),");
        let updated = format!("bitcast<vec4<u32>>(updated.{name})");
        let _ = writeln!(writes, "    store_{name}(element, select(words.{name}, {updated}, live), live);");
    }
    let accessors = format!(
        "struct Words {{\n{words}}}\n\n\
         fn read_words(element: u32) -> Words {{\n    return Words(\n{reads}    );\n}}\n\n\
         fn element_of(words: Words) -> Element {{\n    return Element(\n{casts}    );\n}}\n\n\
         fn write_words(element: u32, words: Words, updated: Element, live: vec4<bool>) {{\n{writes}}}\n\n\
         fn apply(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {{\n    \
         return {apply}(old, grad, hyper, step);\n}}\n"
    );
    [&rule_and_types(rule), &streams, &accessors, CHUNK, GROUPS, UPDATE].join("\n")
}

/// The kernel that sums squares and looks for non-finite gradients.
pub(crate) fn norm(aligned: bool) -> String {
    let grad = stream("grad", GRAD_STREAM, Access::Read, aligned);
    [NORM, &grad, PARTIAL, CONTROL, CHUNK, GROUPS].join("\n")
}

/// The kernel that decides on a step.
pub(crate) fn finish(rule: &dyn Rule) -> String {
    [&rule_and_types(rule), FINISH, PARTIAL].join("\n")
}

/// Refuses a rule whose interface cannot be composed into a kernel.
pub(crate) fn check_interface(rule: &dyn Rule) -> Result<(), Error> {
    let problem = |problem: String| Err(Error::RuleInterface { rule: rule.name().to_owned(), problem });
    let (states, hyperparameters) = (rule.states(), rule.hyperparameters());
    let max_states = super::plan::MAX_STREAMS - GRAD_STREAM - 1;
    if states.len() > max_states {
        return problem(format!("it has {} states; at most {max_states} are possible", states.len()));
    }
    if hyperparameters.len() > super::slots::MAX_HYPERPARAMETERS {
        let (given, max) = (hyperparameters.len(), super::slots::MAX_HYPERPARAMETERS);
        return problem(format!("it has {given} hyperparameters; at most {max} are possible"));
    }
    if rule.bias_corrected().len() > 4 {
        return problem(format!("it wants {} bias corrections; at most 4 are possible", rule.bias_corrected().len()));
    }
    if rule.scalars().len() > 4 {
        return problem(format!("it has {} scalars; at most 4 are possible", rule.scalars().len()));
    }
    let hyperparameters: Vec<&str> = hyperparameters.iter().map(|&(name, _)| name).collect();
    let scalars = rule.scalars();
    let scalars: Vec<&str> = scalars.iter().map(|&(name, _)| name).collect();
    for names in [&states, &hyperparameters, &scalars] {
        for (i, name) in names.iter().enumerate() {
            let mut letters = name.chars();
            let starts = letters.next().is_some_and(|letter| letter.is_ascii_lowercase());
            if !starts || !letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
            {
                return problem(format!("{name:?} is no name for a WGSL field; allowed: a-z, then a-z, 0-9 and _"));
            }
            if names[..i].contains(name) || ["param", "grad"].contains(name) {
                return problem(format!(
                    "the name {name:?} is taken; every state, hyperparameter and scalar needs its own"
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
    let strange = module.global_variables.iter().find(|(_, variable)| {
        variable.binding.is_some_and(|at| at.group > 1 || at.binding > if at.group == 0 { last_binding } else { 1 })
    });
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
    for entry in ["update", "update_bare"] {
        process_overrides(&module, &info, Some((ShaderStage::Compute, entry)), &constants)
            .map_err(|error| problem(format!("an `override` has no usable value in Rule::constants: {error}")))?;
    }
    Ok(())
}

/// In browsers the compiler's own message goes to the device's error handler.
#[cfg(target_arch = "wasm32")]
pub(crate) fn check_source(_: &dyn Rule, _: &str) -> Result<(), Error> {
    Ok(())
}
