//! Other parameters in the place of the training parameters: for evaluation, or perturbed.

use super::CpuOptimizer;
use super::memory::Numbers;
use crate::Error;
use crate::host::{HostSlice, HostSliceMut};
use crate::plan::{Exchange, Mode, StepKind, StepPlan};

impl CpuOptimizer {
    /// Switches `params` from training to evaluation parameters: see [`Optimizer::eval`](crate::Optimizer::eval).
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`] for a rule without evaluation parameters, [`Error::EvaluationMode`] when called
    /// twice, [`Error::LengthMismatch`], [`Error::DtypeMismatch`]; nothing has changed then.
    pub fn eval<'a>(&mut self, params: impl Into<HostSliceMut<'a>>) -> Result<(), Error> {
        self.plan.auxiliary("eval")?;
        self.plan.check_training("eval")?;
        let params = params.into();
        self.check_params(params.as_slice())?;
        let training_params = Numbers::copy_of(params.as_slice());
        self.update_by("eval", params, training_params.as_slice())?;
        self.state.training_params = Some(training_params);
        self.plan.state.set_mode(Mode::Evaluation);
        Ok(())
    }

    /// Restores the training parameters: see [`Optimizer::train`](crate::Optimizer::train).
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`], [`Error::LengthMismatch`], [`Error::DtypeMismatch`]; nothing has changed then.
    pub fn train<'a>(&mut self, params: impl Into<HostSliceMut<'a>>) -> Result<(), Error> {
        self.plan.check_replaces_params()?;
        let params = params.into();
        self.check_params(params.as_slice())?;
        self.restore_training_params(params);
        Ok(())
    }

    /// Restores the parameters of a mode other than training.
    pub(super) fn restore_training_params(&mut self, params: HostSliceMut<'_>) {
        if let Some(stored) = self.state.training_params.take() {
            self.run(StepKind::Restore, &StepPlan::empty_head(), params, stored.as_slice());
            self.plan.state.set_mode(Mode::Training);
        }
    }

    /// Stores `params` and moves them along `grads`: see [`Optimizer::perturb`](crate::Optimizer::perturb).
    ///
    /// # Errors
    /// [`Error::NoSam`], [`Error::EvaluationMode`], [`Error::Perturbed`], [`Error::LengthMismatch`],
    /// [`Error::DtypeMismatch`]; nothing has changed then.
    pub fn perturb<'a, 'b>(
        &mut self,
        params: impl Into<HostSliceMut<'b>>,
        grads: impl Into<HostSlice<'a>>,
    ) -> Result<(), Error> {
        self.perturb_shared(params.into(), grads.into(), &mut |_, _, _| Ok::<_, Error>(()))
    }

    /// Refuses parameters and gradients that no perturbation can take now.
    pub(crate) fn check_perturb(&self, params: HostSlice<'_>, grads: HostSlice<'_>) -> Result<(), Error> {
        self.plan.sam()?;
        self.plan.check_training("perturb")?;
        self.check_params(params)?;
        self.check_len("grads", grads.len())?;
        self.check_dtype(grads, StepKind::Perturb)
    }

    /// As [`CpuOptimizer::perturb`], with sums of parts that others compute: see `run_shared`.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::perturb`]; nothing has changed then. Those of `exchange`.
    pub(crate) fn perturb_shared<E: From<Error>>(
        &mut self,
        params: HostSliceMut<'_>,
        grads: HostSlice<'_>,
        exchange: &mut Exchange<'_, E>,
    ) -> Result<(), E> {
        self.check_perturb(params.as_slice(), grads)?;
        self.state.training_params = Some(Numbers::copy_of(params.as_slice()));
        self.run_shared(StepKind::Perturb, &StepPlan::empty_head(), params, grads, exchange)?;
        self.plan.state.set_mode(Mode::Perturbed);
        Ok(())
    }

    /// As [`CpuOptimizer::perturb`] with the accumulated gradients, which are 0 after it.
    ///
    /// # Errors
    /// [`Error::NoAccumulator`], and those of [`CpuOptimizer::perturb`]; nothing has changed then.
    pub fn perturb_accumulated<'a>(&mut self, params: impl Into<HostSliceMut<'a>>) -> Result<(), Error> {
        let params = params.into();
        self.with_accumulated(|optimizer, accumulated| optimizer.perturb(params, accumulated))
    }
}
