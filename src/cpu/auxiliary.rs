use super::CpuOptimizer;
use crate::Error;
use crate::host::{HostSlice, HostSliceMut};
use crate::plan::StepKind;

impl CpuOptimizer {
    /// An auxiliary update of the rule ([`Rule::auxiliary_updates`](crate::Rule::auxiliary_updates)) over all elements, with
    /// `input` in place of gradients. It counts no step, clips nothing and skips nothing.
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`], [`Error::LengthMismatch`], [`Error::DtypeMismatch`]; nothing has changed
    /// then.
    pub fn auxiliary_update<'a>(
        &mut self,
        name: &str,
        params: impl Into<HostSliceMut<'a>>,
        input: &[f32],
    ) -> Result<(), Error> {
        self.update_by(name, params.into(), input.into())
    }

    /// As [`CpuOptimizer::auxiliary_update`]; the input of `eval` is not read.
    pub(super) fn update_by(
        &mut self,
        name: &str,
        params: HostSliceMut<'_>,
        input: HostSlice<'_>,
    ) -> Result<(), Error> {
        let kind = StepKind::Auxiliary(self.plan.auxiliary(name)?);
        self.check_params(params.as_slice())?;
        self.check_len("input", input.len())?;
        let head = self.plan.auxiliary_head()?;
        self.run(kind, &head, params, input);
        Ok(())
    }

    /// Updates the Hessian's diagonal: see [`Optimizer::update_hessian`](crate::Optimizer::update_hessian).
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`] for a rule without a Hessian, [`Error::LengthMismatch`], [`Error::DtypeMismatch`]; nothing has changed
    /// then.
    pub fn update_hessian<'a>(&mut self, params: impl Into<HostSliceMut<'a>>, estimate: &[f32]) -> Result<(), Error> {
        self.auxiliary_update("update_hessian", params, estimate)
    }

    /// The tensor state of each segment ([`TensorState`](crate::rule::TensorState)), four numbers each in the layout's order
    /// (see [`ReduceBy`](crate::rule::ReduceBy)); none for rules without sums.
    pub fn tensor_states(&self) -> impl Iterator<Item = [f32; 4]> {
        self.state.segments.iter().map(|row| row.state)
    }
}
