//! A formula of x, and an optimizer on its way down.

use exmex::{Differentiate, Express, FlatEx};
use wgpu_optim::{CpuOptimizer, Layout};

use crate::Result;
use crate::entry::Entry;

/// Points further out than this have diverged.
const FAR: f32 = 1e6;

/// A function of x with its derivative.
pub struct Formula {
    value: FlatEx<f64>,
    slope: FlatEx<f64>,
}

impl Formula {
    /// Reads a formula, such as `x^4 - 3*x^3 + 2`.
    ///
    /// # Errors
    /// A text that is no formula of x alone.
    pub fn read(text: &str) -> Result<Self> {
        let value: FlatEx<f64> = exmex::parse(text).map_err(|error| format!("{text:?} is no formula: {error}"))?;
        if value.var_names() != ["x"] {
            let found = value.var_names().join(", ");
            return Err(format!("{text:?} has the variables [{found}]; write a formula of x, such as x^2").into());
        }
        let slope = value.clone().partial(0).map_err(|error| format!("{text:?} has no derivative: {error}"))?;
        Ok(Self { value, slope })
    }

    pub fn value(&self, x: f64) -> f64 {
        self.value.eval(&[x]).unwrap_or(f64::NAN)
    }

    pub fn slope(&self, x: f64) -> f64 {
        // The derivative of a linear formula has lost x, or not.
        let slope = if self.slope.var_names().is_empty() { self.slope.eval(&[]) } else { self.slope.eval(&[x]) };
        slope.unwrap_or(f64::NAN)
    }
}

/// An optimizer on the graph of a formula.
pub struct Descent {
    formula: Formula,
    entry: Entry,
    optimizer: CpuOptimizer,
    x: [f32; 1],
    path: Vec<f32>,
}

impl Descent {
    /// # Errors
    /// Options that the rule refuses.
    pub fn new(formula: Formula, entry: Entry, start: f32) -> Result<Self> {
        let optimizer = entry.builder().build_cpu(&Layout::builder().tensor("x", &[1]).packed().build()?)?;
        Ok(Self { formula, entry, optimizer, x: [start], path: vec![start] })
    }

    /// Takes a step. A point that has diverged stays.
    ///
    /// # Errors
    /// A step past the end of the schedule.
    pub fn step(&mut self) -> Result<()> {
        if self.diverged() {
            return Ok(());
        }
        if self.entry.needs_curvature(self.path.len() as u64 - 1) {
            // By a difference: the formula is differentiated once.
            let (x, by) = (f64::from(self.x[0]), 1e-4);
            let bend = (self.formula.slope(x + by) - self.formula.slope(x - by)) / (2.0 * by);
            self.optimizer.update_hessian(&mut self.x[..], &[bend as f32])?;
        }
        let slope = self.formula.slope(self.x[0].into()) as f32;
        self.optimizer.step(&mut self.x[..], &[slope][..])?;
        self.path.push(self.x[0]);
        Ok(())
    }

    /// The start, and x after every step.
    pub fn path(&self) -> &[f32] {
        &self.path
    }

    pub fn formula(&self) -> &Formula {
        &self.formula
    }

    pub fn diverged(&self) -> bool {
        self.x[0].is_nan() || self.x[0].abs() > FAR
    }
}
