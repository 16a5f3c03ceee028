//! What JavaScript calls. Descriptions travel as JSON, numbers as typed arrays.

mod canvas;
mod cloud;
mod device;
mod points;
mod surface;
mod training;

use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::{Result, field, registry, schedules};

/// The outcome of a call, for JavaScript.
fn out<T>(result: Result<T>) -> std::result::Result<T, JsError> {
    result.map_err(|error| JsError::new(&error.to_string()))
}

fn json(value: &impl Serialize) -> std::result::Result<String, JsError> {
    Ok(serde_json::to_string(value)?)
}

/// Panics become errors of the console.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// The forms of all rules.
#[wasm_bindgen]
pub fn rules() -> std::result::Result<String, JsError> {
    json(&out(registry::rules())?)
}

/// The forms of all schedules.
#[wasm_bindgen]
pub fn schedule_forms() -> std::result::Result<String, JsError> {
    json(&out(schedules::forms())?)
}

/// Learning rates of the first steps, up to the schedule's end.
#[wasm_bindgen]
pub fn schedule_curve(schedule: &str, steps: u32) -> std::result::Result<Vec<f64>, JsError> {
    out(schedules::curve(schedule, steps.into()))
}

/// All functions of two variables.
#[wasm_bindgen]
pub fn functions() -> std::result::Result<String, JsError> {
    json(&field::functions().map(field::describe).collect::<Vec<_>>())
}

/// Values of a function at the centres of the cells of its window, row by row from above.
#[wasm_bindgen]
pub fn field_values(function: &str, columns: usize, rows: usize) -> std::result::Result<Vec<f32>, JsError> {
    Ok(field::values(out(field::function(function))?, columns, rows))
}

/// Names of the optimizers, and of the precisions, of the network.
#[wasm_bindgen]
pub fn network_choices() -> std::result::Result<String, JsError> {
    let optimizers = mlp_mnist::rules::names().into_iter();
    let optimizers: Vec<_> = optimizers.map(|name| (name, mlp_mnist::rules::Choice::new(name, None).lr)).collect();
    json(&serde_json::json!({ "optimizers": optimizers, "precisions": mlp_mnist::precision::names() }))
}

/// The value of a function at a point.
#[wasm_bindgen]
pub fn value_at(function: &str, x: f32, y: f32) -> std::result::Result<f32, JsError> {
    let function = out(field::function(function))?;
    Ok((function.value)([x, y]))
}
