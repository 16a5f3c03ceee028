use wgpu::{BufferSlice, CommandEncoder};

use super::Optimizer;
use crate::gpu::BufferRange;
use crate::plan::{StepKind, StepPlan};
use crate::{BufferSlices, Error};

impl Optimizer {
    /// Records the addition of `weight` times the gradients of a micro-batch to the accumulator. The weights are the
    /// divisor: for the mean over tokens, give the micro-batch's share of all tokens. Gradients come in the format of
    /// [`OptimizerBuilder::grad_dtype`](crate::OptimizerBuilder::grad_dtype); the accumulator is f32.
    ///
    /// One dispatch per chunk that moves 12 bytes per parameter with f32 gradients. Clipping, gradient scale and finite check
    /// are those of [`Optimizer::step_accumulated`], for the sum.
    ///
    /// # Errors
    /// [`Error::NoAccumulator`], [`Error::Hyperparameter`] for a weight that is not finite, and those of
    /// [`Optimizer::step`] that concern `grads`; nothing was recorded then.
    pub fn accumulate<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        grads: impl Into<BufferSlices<'a>>,
        weight: f32,
    ) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        self.plan.check_accumulates()?;
        let head = StepPlan::accumulate_head(weight)?;
        let accumulated = self.accumulated.clone();
        let accumulated: Vec<BufferSlice<'_>> = accumulated.iter().map(BufferRange::slice).collect();
        let (accumulated, grads) = (BufferSlices::from(&accumulated), grads.into());
        let copies = self.gather(accumulated, grads, StepKind::Accumulate)?;
        self.bind_gathered(accumulated, grads, copies.as_ref(), StepKind::Accumulate)?;
        Self::record_copies(encoder, copies.as_ref());
        self.encode(encoder, StepKind::Accumulate, head);
        Ok(())
    }

    /// Records one step with the accumulated gradients, which are 0 after it, also if it is skipped.
    ///
    /// # Errors
    /// [`Error::NoAccumulator`], and those of [`Optimizer::step`]; nothing was recorded then.
    pub fn step_accumulated<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
    ) -> Result<(), Error> {
        let params = params.into();
        self.with_accumulated(encoder, |optimizer, encoder, grads| optimizer.record_step(encoder, params, grads, false))
    }

    /// Calls `record` with the accumulated gradients, which are 0 after it.
    pub(super) fn with_accumulated(
        &mut self,
        encoder: &mut CommandEncoder,
        record: impl FnOnce(&mut Self, &mut CommandEncoder, BufferSlices<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.on_accumulated(|optimizer, grads| record(optimizer, encoder, grads))?;
        self.clear_accumulated(encoder);
        Ok(())
    }

    /// Calls `record` with the accumulated gradients.
    pub(super) fn on_accumulated(
        &mut self,
        record: impl FnOnce(&mut Self, BufferSlices<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.plan.check_accumulates()?;
        let accumulated = self.accumulated.clone();
        let slices: Vec<BufferSlice<'_>> = accumulated.iter().map(BufferRange::slice).collect();
        record(self, (&slices).into())
    }

    /// Records that the accumulated gradients become 0.
    pub(crate) fn clear_accumulated(&self, encoder: &mut CommandEncoder) {
        for range in &self.accumulated {
            encoder.clear_buffer(&range.buffer, 0, None);
        }
    }
}
