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
        self.plan.check_accumulates()?;
        let mut accumulated = std::mem::take(&mut self.state.accumulated);
        let result = f(self, &accumulated);
        if result.is_ok() {
            accumulated.fill(0.0);
        }
        self.state.accumulated = accumulated;
        result
    }
}
