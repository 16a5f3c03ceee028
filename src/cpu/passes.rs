//! What some rules have beside `step`.

use super::CpuOptimizer;
use crate::Error;

impl CpuOptimizer {
    /// Updates the rule's estimate of the Hessian's diagonal: see
    /// [`Optimizer::update_hessian`](crate::Optimizer::update_hessian).
    ///
    /// # Errors
    /// [`Error::UnknownPass`] for a rule without such an estimate, [`Error::LengthMismatch`]; nothing has changed then.
    pub fn update_hessian(&mut self, params: &mut [f32], estimate: &[f32]) -> Result<(), Error> {
        self.run_pass("update_hessian", params, estimate)
    }

    /// Switches `params` from training to evaluation parameters: see [`Optimizer::eval`](crate::Optimizer::eval).
    ///
    /// # Errors
    /// [`Error::UnknownPass`] for a rule without evaluation parameters, [`Error::EvaluationMode`] when called twice,
    /// [`Error::LengthMismatch`]; nothing has changed then.
    pub fn eval(&mut self, params: &mut [f32]) -> Result<(), Error> {
        self.plan.pass("eval")?;
        self.plan.check_training("eval")?;
        let training_params = params.to_vec();
        self.run_pass("eval", params, &training_params)?;
        self.moment.training_params = training_params;
        self.plan.evaluating = true;
        Ok(())
    }

    /// Switches `params` back: see [`Optimizer::train`](crate::Optimizer::train).
    ///
    /// # Errors
    /// [`Error::UnknownPass`], [`Error::LengthMismatch`]; nothing has changed then.
    pub fn train(&mut self, params: &mut [f32]) -> Result<(), Error> {
        self.plan.pass("eval")?;
        self.check_len("params", params.len())?;
        if self.plan.evaluating {
            params.copy_from_slice(&self.moment.training_params);
            self.moment.training_params = Vec::new();
            self.plan.evaluating = false;
        }
        Ok(())
    }

    /// The states of each tensor ([`Rule::tensor_states`](crate::Rule::tensor_states)), four numbers for each in the
    /// order of the layout (or of one segment over all, see [`Segmentation`](crate::rule::Segmentation)); none for rules
    /// without sums.
    pub fn tensor_states(&self) -> impl Iterator<Item = [f32; 4]> {
        self.moment.tensors.iter().map(|tensor| tensor.state)
    }
}
