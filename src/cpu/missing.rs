//! Steps in which tensors have no gradient.

use std::ops::Range;

use super::memory::Numbers;
use super::{CpuOptimizer, check_dtype};
use crate::host::{HostSlice, HostSliceMut};
use crate::plan::StepPlan;
use crate::storage::Dtype;
use crate::{Error, Stats};

impl CpuOptimizer {
    /// As [`CpuOptimizer::step`], with a gradient or `None` for each tensor, in the layout's order: see
    /// [`OptimizerBuilder::missing_gradients`](crate::OptimizerBuilder::missing_gradients). Copies the gradients.
    ///
    /// # Errors
    /// [`Error::GradientCount`], [`Error::GradientLength`], [`Error::MissingGradient`] without that option, and those of
    /// [`CpuOptimizer::step`]; nothing has changed then.
    pub fn step_with_missing<'a>(
        &mut self,
        params: impl Into<HostSliceMut<'a>>,
        grads: &[Option<HostSlice<'_>>],
    ) -> Result<Stats, Error> {
        let is_missing = self.missing(grads)?;
        // A missing gradient is 0, and inactive.
        let flat = self.flat_grads(grads);
        self.plan.groups.set_missing(is_missing);
        let stats = self.step(params, flat.as_slice());
        self.plan.groups.set_missing(Vec::new());
        stats
    }

    /// Checks the gradients of all tensors. Returns which are missing.
    pub(crate) fn missing(&self, grads: &[Option<HostSlice<'_>>]) -> Result<Vec<bool>, Error> {
        check(&self.plan, self.plan.settings.precision.grads, grads)
    }

    /// Gradients in the flat space, 0 where missing. They have been checked.
    pub(crate) fn flat_grads(&self, grads: &[Option<HostSlice<'_>>]) -> Numbers {
        let dtype = self.plan.settings.precision.grads;
        let mut flat = Numbers::new(0, dtype, 0.0, self.plan.layout.len());
        let (unit, bytes) = (dtype.bytes(1) as usize, flat.as_mut().bytes_mut());
        for (tensor, grad) in self.plan.layout.tensors().iter().zip(grads) {
            if let Some(grad) = *grad {
                let Range { start, end } = tensor.range();
                bytes[unit * start..unit * end].copy_from_slice(grad.bytes());
            }
        }
        flat
    }
}

/// Checks the gradients of all tensors. Returns which are missing.
fn check(plan: &StepPlan, dtype: Dtype, grads: &[Option<HostSlice<'_>>]) -> Result<Vec<bool>, Error> {
    let tensors = plan.layout.tensors();
    if grads.len() != tensors.len() {
        return Err(Error::GradientCount { expected: tensors.len(), actual: grads.len() });
    }
    let is_missing = tensors.iter().zip(grads).map(|(tensor, grad)| {
        let expected = tensor.range().len();
        match grad {
            None => plan.check_missing(tensor).map(|()| expected > 0),
            Some(grad) => {
                check_dtype("grads", dtype, *grad)?;
                let (expected, actual) = (expected as u64, grad.len() as u64);
                let wrong_len = || Error::GradientLength { tensor: tensor.name().to_owned(), expected, actual };
                if expected == actual { Ok(false) } else { Err(wrong_len()) }
            }
        }
    });
    is_missing.collect()
}
