//! Rules that descend one function side by side, each with a point of its own, on the CPU engine.

use examples_common::functions::Function;
use wgpu_optim::{CpuOptimizer, Layout};

use crate::Result;
use crate::entry::Entry;
use crate::field;

/// One point and its optimizer.
pub struct Racer {
    function: &'static Function,
    entry: Entry,
    optimizer: CpuOptimizer,
    point: [f32; 2],
    path: Vec<[f32; 2]>,
    arrival: Option<u64>,
}

impl Racer {
    /// # Errors
    /// Options that the rule refuses.
    pub fn new(function: &'static Function, entry: Entry, start: [f32; 2]) -> Result<Self> {
        let layout = Layout::builder().tensor("point", &[2]).packed().build()?;
        let optimizer = entry.builder().build_cpu(&layout)?;
        let mut racer = Self { function, entry, optimizer, point: start, path: vec![start], arrival: None };
        racer.observe();
        Ok(racer)
    }

    /// Takes a step. A point that has diverged stays.
    ///
    /// # Errors
    /// A step past the end of the schedule.
    pub fn step(&mut self) -> Result<()> {
        if self.diverged() {
            return Ok(());
        }
        let Self { function, optimizer, point, .. } = self;
        if self.entry.needs_curvature(self.path.len() as u64 - 1) {
            let curvature = (function.curvature)(*point);
            optimizer.update_hessian(&mut point[..], &curvature)?;
        }
        if self.entry.sam.is_some() {
            let gradient = (function.gradient)(*point);
            optimizer.perturb(&mut point[..], &gradient[..])?;
        }
        let gradient = (function.gradient)(*point);
        optimizer.step(&mut point[..], &gradient[..])?;
        self.path.push(self.point);
        self.observe();
        Ok(())
    }

    fn observe(&mut self) {
        let arrived = self.value() <= self.function.target;
        self.arrival = if arrived { self.arrival.or(Some(self.steps())) } else { None };
    }

    pub fn steps(&self) -> u64 {
        self.path.len() as u64 - 1
    }

    pub fn value(&self) -> f32 {
        (self.function.value)(self.point)
    }

    /// The start, and the point after every step.
    pub fn path(&self) -> &[[f32; 2]] {
        &self.path
    }

    /// Steps after which the point was at the target, and has stayed since.
    pub fn arrival(&self) -> Option<u64> {
        self.arrival
    }

    pub fn diverged(&self) -> bool {
        field::diverged(self.function, self.point)
    }
}
