use wgpu::{BufferSlice, CommandEncoder};

use super::Optimizer;
use crate::plan::StepKind;
use crate::{BufferSlices, Error};

impl Optimizer {
    /// Records an auxiliary update of the rule ([`Rule::auxiliary_updates`](crate::Rule::auxiliary_updates)) over all
    /// elements, with `input` (f32) in place of gradients. It counts no step, clips nothing and skips nothing.
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`], and those of [`Optimizer::step`]; nothing was recorded then.
    pub fn auxiliary_update<'a>(
        &mut self,
        name: &str,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
        input: impl Into<BufferSlices<'a>>,
    ) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        let kind = StepKind::Auxiliary(self.plan.auxiliary(name)?);
        self.bind(params.into(), input.into(), kind)?;
        let head = self.plan.auxiliary_head()?;
        self.encode(encoder, kind, head);
        Ok(())
    }

    /// Records an update of the Hessian's diagonal ([`Sophia`](crate::Sophia)), at any interval. `estimate` is f32 over the
    /// flat space, as the rule's documentation says, averaged over the batch. It is neither clipped nor scaled nor negated,
    /// and no step is counted. `params` is bound and stays unchanged.
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`] for a rule without a Hessian, and those of [`Optimizer::step`]; nothing was
    /// recorded then.
    pub fn update_hessian<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
        estimate: impl Into<BufferSlices<'a>>,
    ) -> Result<(), Error> {
        self.auxiliary_update("update_hessian", encoder, params, estimate)
    }

    /// The tensor state of each segment ([`TensorState`](crate::rule::TensorState)), four f32 each in the layout's order
    /// (see [`ReduceBy`](crate::rule::ReduceBy)), with `COPY_SRC` usage; `None` for rules without sums.
    pub fn tensor_states(&self) -> Option<BufferSlice<'_>> {
        let (buffer, segments) = (self.resources.persistent.segments.as_ref()?, self.plan.segments.as_ref()?);
        Some(buffer.slice(segments.state_bytes()))
    }
}
