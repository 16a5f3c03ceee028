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
}
