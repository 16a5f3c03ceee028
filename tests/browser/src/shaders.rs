//! The WGSL of every kernel, for the browser's compiler.

#[path = "../../common/shader_cases.rs"]
mod shader_cases;

use js_sys::Array;
use wasm_bindgen::prelude::wasm_bindgen;
use wgpu_optim::shader_sources;

use shader_cases::shader_cases;

/// Number of cases: rules with a kind of clipping.
#[wasm_bindgen]
pub fn shader_case_count() -> usize {
    shader_cases().len()
}

/// Label and WGSL of each kernel of a case, one after the other.
///
/// # Errors
/// The rule's WGSL cannot be composed, or there is no such case.
#[wasm_bindgen]
pub fn shaders_of(case: usize) -> Result<Array, String> {
    let (rule, clip) = shader_cases().into_iter().nth(case).ok_or("no case of that number")?;
    let sources = shader_sources(&rule, clip).map_err(|error| error.to_string())?;
    let name = rule.spec().name;
    Ok(sources
        .into_iter()
        .flat_map(|(label, source)| [format!("{name}: {label}"), source])
        .map(wasm_bindgen::JsValue::from)
        .collect())
}
