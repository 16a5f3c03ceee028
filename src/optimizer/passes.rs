//! What some rules have beside `step`.

use super::Optimizer;
use crate::{Error, FlatBuffer};

impl Optimizer {
    /// Records an update of the rule's estimate of the Hessian's diagonal ([`Sophia`](crate::Sophia)), at whatever
    /// interval the training program keeps. `estimate` is f32 over the layout's flat space: what the rule's
    /// documentation says, already averaged over the batch. It is not clipped, not divided by the gradient scale, not
    /// negated to maximize, and no step is counted. `params` is bound and left as it is.
    ///
    /// # Errors
    /// [`Error::UnknownPass`] for a rule without such an estimate, and those of [`Optimizer::step`]; nothing was
    /// recorded then.
    pub fn update_hessian<'a>(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        queue: &wgpu::Queue,
        params: impl Into<FlatBuffer<'a>>,
        estimate: impl Into<FlatBuffer<'a>>,
    ) -> Result<(), Error> {
        self.run_pass("update_hessian", encoder, queue, params, estimate)
    }
}
