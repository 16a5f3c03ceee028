use std::ops::Range;

use super::wire::Mean;
use crate::cpu::CpuOptimizer;
use crate::layout::TensorInfo;
use crate::{Error, Layout, OptimizerBuilder};

/// Tensors that are exchanged together, without the padding between them.
#[derive(Debug)]
pub(super) struct Fragment {
    /// The tensors, one after the other.
    pub(super) layout: Layout,
    /// The ranges of the tensors in the program's layout.
    ranges: Vec<Range<usize>>,
    /// The step of the first merge, counted from 0 in each cycle of H steps.
    pub(super) offset: u64,
    /// The parameters of the last outer step.
    pub(super) global: Vec<f32>,
    pub(super) outer: CpuOptimizer,
    /// The rounding of this rank's last difference; empty for f32.
    pub(super) residual: Vec<f32>,
    /// The mean of an exchange that is to be merged.
    pub(super) pending: Option<Vec<f32>>,
    /// Step of the last exchange.
    pub(super) exchanged_at: u64,
}

impl Fragment {
    /// # Errors
    /// Those of [`OptimizerBuilder::build_cpu`].
    pub(super) fn new(
        tensors: &[&TensorInfo],
        offset: u64,
        outer: OptimizerBuilder,
        params: &[f32],
    ) -> Result<Self, Error> {
        let named = |layout: crate::LayoutBuilder, tensor: &&TensorInfo| layout.tensor(tensor.name(), tensor.shape());
        let layout = tensors.iter().fold(Layout::builder(), named).packed().build()?;
        let outer = outer.build_cpu(&layout)?;
        let ranges = tensors.iter().map(|tensor| tensor.range()).collect();
        let (residual, pending) = (Vec::new(), None);
        let mut fragment =
            Self { global: Vec::new(), layout, ranges, offset, outer, residual, pending, exchanged_at: 0 };
        fragment.global = fragment.gather(params);
        Ok(fragment)
    }

    pub(super) fn len(&self) -> usize {
        self.global.len()
    }

    /// The parameters of the tensors.
    fn gather(&self, params: &[f32]) -> Vec<f32> {
        self.ranges.iter().flat_map(|range| &params[range.clone()]).copied().collect()
    }

    /// Writes the parameters of the tensors.
    pub(super) fn scatter(&self, values: &[f32], params: &mut [f32]) {
        let mut rest = values;
        for range in &self.ranges {
            let tensor;
            (tensor, rest) = rest.split_at(range.len());
            params[range.clone()].copy_from_slice(tensor);
        }
    }

    /// How far the parameters have moved since the last outer step, backwards: the gradient of the next outer step. With the
    /// rounding of the last difference.
    pub(super) fn difference(&self, params: &[f32]) -> Vec<f32> {
        let mut difference = self.gather(params);
        difference.iter_mut().zip(&self.global).for_each(|(local, global)| *local = global - *local);
        difference.iter_mut().zip(&self.residual).for_each(|(difference, residual)| *difference += residual);
        difference
    }

    pub(super) fn end_exchange(&mut self, mean: Mean, step: u64) {
        self.pending = Some(mean.values);
        self.residual = mean.residual;
        self.exchanged_at = step;
    }

    /// Takes the outer step, and mixes its parameters with those of this rank.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::step`]; nothing has changed then.
    pub(super) fn merge(&mut self, params: &mut [f32], local_weight: f32) -> Result<(), Error> {
        let Some(mean) = &self.pending else { return Ok(()) };
        self.outer.step(&mut self.global, mean)?;
        self.pending = None;
        let local = self.gather(params);
        let merged: Vec<f32> =
            self.global.iter().zip(local).map(|(&global, local)| lerp(global, local, local_weight)).collect();
        self.scatter(&merged, params);
        Ok(())
    }
}

/// As `torch.lerp`: exact at both ends.
fn lerp(start: f32, end: f32, weight: f32) -> f32 {
    if weight < 0.5 { start + weight * (end - start) } else { end - (end - start) * (1.0 - weight) }
}
