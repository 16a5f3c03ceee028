//! Other parameters in the place of the training parameters: for evaluation, or perturbed.

use super::CpuOptimizer;
use crate::Error;
use crate::plan::{Mode, StepKind, StepPlan};
use crate::storage::HostSlice;

impl CpuOptimizer {
    /// Switches `params` from training to evaluation parameters: see [`Optimizer::eval`](crate::Optimizer::eval).
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`] for a rule without evaluation parameters, [`Error::EvaluationMode`] when called
    /// twice, [`Error::LengthMismatch`]; nothing has changed then.
    pub fn eval(&mut self, params: &mut [f32]) -> Result<(), Error> {
        self.plan.auxiliary("eval")?;
        self.plan.check_training("eval")?;
        let training_params = params.to_vec();
        self.auxiliary_update("eval", params, &training_params)?;
        self.state.training_params = training_params;
        self.plan.state.set_mode(Mode::Evaluation);
        Ok(())
    }

    /// Restores the training parameters: see [`Optimizer::train`](crate::Optimizer::train).
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`], [`Error::LengthMismatch`]; nothing has changed then.
    pub fn train(&mut self, params: &mut [f32]) -> Result<(), Error> {
        self.plan.check_replaces_params()?;
        self.check_len("params", params.len())?;
        self.restore_training_params(params);
        Ok(())
    }

    /// Restores the parameters of a mode other than training.
    pub(super) fn restore_training_params(&mut self, params: &mut [f32]) {
        if *self.plan.state.mode != Mode::Training {
            let stored = std::mem::take(&mut self.state.training_params);
            self.run(StepKind::Restore, &StepPlan::empty_head(), params, (&stored).into());
            self.plan.state.set_mode(Mode::Training);
        }
    }

    /// Stores `params` and moves them along `grads`: see [`Optimizer::perturb`](crate::Optimizer::perturb).
    ///
    /// # Errors
    /// [`Error::NoSam`], [`Error::EvaluationMode`], [`Error::Perturbed`], [`Error::LengthMismatch`],
    /// [`Error::DtypeMismatch`]; nothing has changed then.
    pub fn perturb<'a>(&mut self, params: &mut [f32], grads: impl Into<HostSlice<'a>>) -> Result<(), Error> {
        let grads = grads.into();
        self.plan.sam()?;
        self.plan.check_training("perturb")?;
        self.check_len("params", params.len())?;
        self.check_len("grads", grads.len())?;
        self.check_dtype(grads, StepKind::Perturb)?;
        self.state.training_params = params.to_vec();
        self.run(StepKind::Perturb, &StepPlan::empty_head(), params, grads);
        self.plan.state.set_mode(Mode::Perturbed);
        Ok(())
    }

    /// As [`CpuOptimizer::perturb`] with the accumulated gradients, which are 0 after it.
    ///
    /// # Errors
    /// [`Error::NoAccumulator`], and those of [`CpuOptimizer::perturb`]; nothing has changed then.
    pub fn perturb_accumulated(&mut self, params: &mut [f32]) -> Result<(), Error> {
        self.with_accumulated(|optimizer, accumulated| optimizer.perturb(params, accumulated))
    }
}
