use super::CpuOptimizer;
use crate::Error;
use crate::plan::StepKind;

impl CpuOptimizer {
    /// An auxiliary update of the rule ([`Rule::auxiliary_updates`](crate::Rule::auxiliary_updates)) over all elements, with
    /// `input` in place of gradients. It counts no step, clips nothing and skips nothing.
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`], [`Error::LengthMismatch`]; nothing has changed then.
    pub fn auxiliary_update(&mut self, name: &str, params: &mut [f32], input: &[f32]) -> Result<(), Error> {
        let kind = StepKind::Auxiliary(self.plan.auxiliary(name)?);
        self.check_len("params", params.len())?;
        self.check_len("input", input.len())?;
        let head = self.plan.auxiliary_head()?;
        self.run(kind, &head, params, input.into());
        Ok(())
    }

    /// Updates the Hessian's diagonal: see [`Optimizer::update_hessian`](crate::Optimizer::update_hessian).
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`] for a rule without a Hessian, [`Error::LengthMismatch`]; nothing has changed then.
    pub fn update_hessian(&mut self, params: &mut [f32], estimate: &[f32]) -> Result<(), Error> {
        self.auxiliary_update("update_hessian", params, estimate)
    }

    /// The tensor state of each segment ([`TensorState`](crate::rule::TensorState)), four numbers each in the layout's order
    /// (see [`ReduceBy`](crate::rule::ReduceBy)); none for rules without sums.
    pub fn tensor_states(&self) -> impl Iterator<Item = [f32; 4]> {
        self.state.segments.iter().map(|row| row.state)
    }
}
