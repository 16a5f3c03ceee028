//! Single points for JavaScript: descents of a formula, and races on functions of two variables.

use wasm_bindgen::prelude::*;

use super::out;
use crate::descent::{self, Formula};
use crate::entry::Entry;
use crate::field;
use crate::race;

/// An optimizer on the graph of a formula.
#[wasm_bindgen]
pub struct Descent(descent::Descent);

#[wasm_bindgen]
impl Descent {
    #[wasm_bindgen(constructor)]
    pub fn new(formula: &str, entry: &str, start: f32) -> Result<Descent, JsError> {
        let parts = Formula::read(formula).and_then(|formula| Ok((formula, Entry::read(entry)?)));
        out(parts.and_then(|(formula, entry)| descent::Descent::new(formula, entry, start))).map(Self)
    }

    pub fn step(&mut self) -> Result<(), JsError> {
        out(self.0.step())
    }

    /// The start, and x after every step.
    pub fn path(&self) -> Vec<f32> {
        self.0.path().to_vec()
    }

    pub fn diverged(&self) -> bool {
        self.0.diverged()
    }

    pub fn value(&self, x: f64) -> f64 {
        self.0.formula().value(x)
    }

    pub fn slope(&self, x: f64) -> f64 {
        self.0.formula().slope(x)
    }
}

/// One point of a race.
#[wasm_bindgen]
pub struct Racer(race::Racer);

#[wasm_bindgen]
impl Racer {
    #[wasm_bindgen(constructor)]
    pub fn new(function: &str, entry: &str, x: f32, y: f32) -> Result<Racer, JsError> {
        let parts = field::function(function).and_then(|function| Ok((function, Entry::read(entry)?)));
        out(parts.and_then(|(function, entry)| race::Racer::new(function, entry, [x, y]))).map(Self)
    }

    pub fn step(&mut self) -> Result<(), JsError> {
        out(self.0.step())
    }

    /// x and y of the start, and after every step.
    pub fn path(&self) -> Vec<f32> {
        self.0.path().as_flattened().to_vec()
    }

    pub fn value(&self) -> f32 {
        self.0.value()
    }

    pub fn steps(&self) -> f64 {
        self.0.steps() as f64
    }

    /// Steps to the target, where the point has stayed since.
    pub fn arrival(&self) -> Option<f64> {
        self.0.arrival().map(|steps| steps as f64)
    }

    pub fn diverged(&self) -> bool {
        self.0.diverged()
    }
}
