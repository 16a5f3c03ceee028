//! Checks a composed kernel on the host: a mistake in a rule's WGSL is an error, not wgpu's panic.

use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{ShaderStage, front::wgsl};

use super::compose::Composed;
use super::reflect::Reflection;

/// The interface of a valid kernel.
///
/// # Errors
/// The compiler's message, with the source lines.
pub(crate) fn validate(composed: &Composed, constants: &[(String, f64)]) -> Result<Reflection, String> {
    let source = &composed.source;
    let path = |line: Option<u32>| composed.file(line.unwrap_or(1));
    // wgpu refuses extensions of features that the device lacks, even unused ones.
    let options = wgsl::Options { parse_doc_comments: false, capabilities: Capabilities::empty() };
    let module = wgsl::Frontend::new_with_options(options).parse(source).map_err(|error| {
        let line = error.location(source).map(|location| location.line_number);
        error.emit_to_string_with_path(source, path(line).as_str())
    })?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).map_err(|error| {
        let line = error.location(source).map(|location| location.line_number);
        error.emit_to_string_with_path(source, &path(line))
    })?;
    let [entry] = &module.entry_points[..] else {
        return Err("it declares an entry point; a rule has functions only".to_owned());
    };
    for (handle, variable) in module.global_variables.iter().filter(|(_, variable)| variable.binding.is_some()) {
        let line = module.global_variables.get_span(handle).location(source).line_number;
        if composed.place(line as usize).0 == "rule" {
            let name = variable.name.as_deref().unwrap_or_default();
            return Err(format!("it binds {name:?}; a rule reads everything from its arguments"));
        }
    }
    let reflection = Reflection::new(&module, &info);
    let declared = constants.iter().filter(|(name, _)| reflection.overrides.contains(name));
    let values = declared.map(|(name, value)| (name.clone(), *value)).collect();
    process_overrides(&module, &info, Some((ShaderStage::Compute, &entry.name)), &values)
        .map_err(|error| format!("an `override` has no usable value in RuleSpec::constants: {error}"))?;
    Ok(reflection)
}
