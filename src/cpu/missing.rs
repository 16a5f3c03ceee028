//! Steps in which tensors have no gradient.

use super::CpuOptimizer;
use crate::plan::StepPlan;
use crate::storage::{Dtype, HostSlice};
use crate::{Error, Stats};

impl CpuOptimizer {
    /// As [`CpuOptimizer::step`], with a gradient or `None` for each tensor, in the layout's order: see
    /// [`OptimizerBuilder::missing_gradients`](crate::OptimizerBuilder::missing_gradients). Copies the gradients.
    ///
    /// # Errors
    /// [`Error::GradientCount`], [`Error::GradientLength`], [`Error::MissingGradient`] without that option, and those of
    /// [`CpuOptimizer::step`]; nothing has changed then.
    pub fn step_with_missing(&mut self, params: &mut [f32], grads: &[Option<HostSlice<'_>>]) -> Result<Stats, Error> {
        let dtype = self.plan.settings.grad_dtype;
        let is_missing = check(&self.plan, dtype, grads)?;
        match dtype {
            Dtype::F32 => {
                let flat = flat(&self.plan, grads, |grad| if let HostSlice::F32(grad) = grad { grad } else { &[] });
                self.step_without(params, is_missing, (&flat).into())
            }
            Dtype::Bf16 => {
                let flat = flat(&self.plan, grads, |grad| if let HostSlice::Bf16(grad) = grad { grad } else { &[] });
                self.step_without(params, is_missing, (&flat).into())
            }
            Dtype::F16 => {
                let flat = flat(&self.plan, grads, |grad| if let HostSlice::F16(grad) = grad { grad } else { &[] });
                self.step_without(params, is_missing, (&flat).into())
            }
        }
    }

    fn step_without(
        &mut self,
        params: &mut [f32],
        is_missing: Vec<bool>,
        grads: HostSlice<'_>,
    ) -> Result<Stats, Error> {
        self.plan.groups.set_missing(is_missing);
        let stats = self.step(params, grads);
        self.plan.groups.set_missing(Vec::new());
        stats
    }
}

/// Gradients over the flat space; 0 where they are missing. `numbers` returns those of a format.
fn flat<'a, T: Copy + Default + 'a>(
    plan: &StepPlan,
    grads: &[Option<HostSlice<'a>>],
    numbers: impl Fn(HostSlice<'a>) -> &'a [T],
) -> Vec<T> {
    let mut flat = vec![T::default(); plan.layout.len()];
    for (tensor, grad) in plan.layout.tensors().iter().zip(grads) {
        if let Some(grad) = *grad {
            flat[tensor.range()].copy_from_slice(numbers(grad));
        }
    }
    flat
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
            Some(grad) if grad.dtype() != dtype => {
                Err(Error::DtypeMismatch { what: "grads", expected: dtype, actual: grad.dtype() })
            }
            Some(grad) if grad.len() != expected => {
                let (expected, actual) = (expected as u64, grad.len() as u64);
                Err(Error::GradientLength { tensor: tensor.name().to_owned(), expected, actual })
            }
            Some(_) => Ok(false),
        }
    });
    is_missing.collect()
}
