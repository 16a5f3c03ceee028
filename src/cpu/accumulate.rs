use super::CpuOptimizer;
use crate::host::{HostSlice, HostSliceMut};
use crate::plan::{StepKind, StepPlan};
use crate::{Error, Stats};

impl CpuOptimizer {
    /// Adds `weight` times the gradients of a micro-batch to the accumulator: see
    /// [`Optimizer::accumulate`](crate::Optimizer::accumulate).
    ///
    /// # Errors
    /// [`Error::NoAccumulator`], [`Error::LengthMismatch`], [`Error::DtypeMismatch`], [`Error::Hyperparameter`] for a weight
    /// that is not finite; nothing has changed then.
    pub fn accumulate<'a>(&mut self, grads: impl Into<HostSlice<'a>>, weight: f32) -> Result<(), Error> {
        let grads = grads.into();
        self.plan.check_accumulates()?;
        self.check_len("grads", grads.len())?;
        self.check_dtype(grads, StepKind::Accumulate)?;
        let head = StepPlan::accumulate_head(weight)?;
        let mut accumulated = std::mem::take(&mut self.state.accumulated);
        self.run(StepKind::Accumulate, &head, (&mut accumulated).into(), grads);
        self.state.accumulated = accumulated;
        Ok(())
    }

    /// One step with the accumulated gradients, which are 0 after it, also if it was skipped.
    ///
    /// # Errors
    /// [`Error::NoAccumulator`], and those of [`CpuOptimizer::step`]; nothing has changed then.
    pub fn step_accumulated<'a>(&mut self, params: impl Into<HostSliceMut<'a>>) -> Result<Stats, Error> {
        let params = params.into();
        self.with_accumulated(|optimizer, accumulated| optimizer.step(params, accumulated))
    }

    /// Calls `f` with the accumulated gradients, which are 0 after it if it succeeds.
    pub(super) fn with_accumulated<T>(
        &mut self,
        f: impl FnOnce(&mut Self, &[f32]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let accumulated = self.take_accumulated()?;
        let result = f(self, &accumulated);
        self.put_accumulated(accumulated, result.is_ok());
        result
    }

    /// Takes the accumulated gradients out.
    pub(crate) fn take_accumulated(&mut self) -> Result<Vec<f32>, Error> {
        self.plan.check_accumulates()?;
        Ok(std::mem::take(&mut self.state.accumulated))
    }

    /// Puts the accumulator back, at 0 if a step has used it.
    pub(crate) fn put_accumulated(&mut self, mut accumulated: Vec<f32>, is_used: bool) {
        if is_used {
            accumulated.fill(0.0);
        }
        self.state.accumulated = accumulated;
    }
}
