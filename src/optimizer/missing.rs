//! Gradients that some tensors lack.

use super::Optimizer;
use crate::{BufferSlices, Error};

impl Optimizer {
    /// Checks that a list of options has an entry of the right length for each tensor, and that gradients may be missing.
    pub(super) fn check_optional(&self, grads: BufferSlices<'_>) -> Result<(), Error> {
        let BufferSlices::Optional(grads) = grads else { return Ok(()) };
        let (tensors, dtype) = (self.plan.layout.tensors(), self.plan.settings.precision.grads);
        if grads.len() != tensors.len() {
            return Err(Error::GradientCount { expected: tensors.len(), actual: grads.len() });
        }
        for (tensor, grad) in tensors.iter().zip(grads) {
            let Some(grad) = grad else {
                self.plan.check_missing(tensor)?;
                continue;
            };
            let (expected, actual) = (tensor.range().len() as u64, grad.size() / dtype.bytes(1));
            if expected != actual {
                return Err(Error::GradientLength { tensor: tensor.name().to_owned(), expected, actual });
            }
        }
        Ok(())
    }
}
