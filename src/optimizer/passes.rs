//! What some rules have beside `step`.

use wgpu::{BufferSlice, BufferUsages, CommandEncoder};

use super::{Optimizer, state_pieces};
use crate::gpu::{Piece, Work, check_usage};
use crate::{Error, FlatBuffer};

const EVAL_COPIES: &str = ", because `eval` copies the training parameters and `train` copies them back";

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
        encoder: &mut CommandEncoder,
        queue: &wgpu::Queue,
        params: impl Into<FlatBuffer<'a>>,
        estimate: impl Into<FlatBuffer<'a>>,
    ) -> Result<(), Error> {
        self.run_pass("update_hessian", encoder, queue, params, estimate)
    }

    /// Records the switch from training to evaluation parameters for rules that have both
    /// ([`ScheduleFreeSgd`](crate::ScheduleFreeSgd), [`ScheduleFreeAdamW`](crate::ScheduleFreeAdamW)): `params` becomes
    /// what to evaluate and to save, and the optimizer keeps a copy of what it was (4 bytes per parameter, from the
    /// first call on). Until [`Optimizer::train`], steps are refused. Call it before encoders of later steps are
    /// recorded, and submit what it was recorded into: the mode changes with the call.
    ///
    /// # Errors
    /// [`Error::UnknownPass`] for a rule without evaluation parameters, [`Error::EvaluationMode`] when called twice,
    /// [`Error::MissingUsage`] unless `params` has `STORAGE`, `COPY_SRC` and `COPY_DST`, and those of
    /// [`Optimizer::step`]; nothing was recorded then.
    pub fn eval<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        queue: &wgpu::Queue,
        params: impl Into<FlatBuffer<'a>>,
    ) -> Result<(), Error> {
        let work = Work::Pass(self.plan.pass("eval")?);
        self.plan.check_training("eval")?;
        let params = params.into();
        let pieces = self.copyable(params, EVAL_COPIES)?;
        if self.training_params.is_empty() {
            self.training_params = state_pieces(&self.device, "training params", 0.0, self.plan.len as u64);
        }
        let kept = self.training_params.clone();
        // The pass reads no input; the copy is bound in the place of one.
        let input: Vec<BufferSlice<'_>> = kept.iter().map(Piece::slice).collect();
        self.bind(params, (&input).into(), work)?;
        let head = self.plan.pass_slot()?;
        copy(encoder, &pieces, &kept);
        self.record(encoder, queue, head, work);
        self.plan.evaluating = true;
        Ok(())
    }

    /// Records the switch back to training parameters: `params` becomes what it was before [`Optimizer::eval`], to the
    /// bit, and anything written into it since is lost. Without an `eval` before, it does nothing.
    ///
    /// # Errors
    /// As [`Optimizer::eval`], but for [`Error::EvaluationMode`].
    pub fn train<'a>(&mut self, encoder: &mut CommandEncoder, params: impl Into<FlatBuffer<'a>>) -> Result<(), Error> {
        self.plan.pass("eval")?;
        let pieces = self.copyable(params.into(), EVAL_COPIES)?;
        if self.plan.evaluating {
            copy(encoder, &self.training_params, &pieces);
            self.plan.evaluating = false;
        }
        Ok(())
    }

    /// The states of each tensor ([`Rule::tensor_states`](crate::Rule::tensor_states)), four f32 for each in the order of
    /// the layout (or of one segment over all, see [`Segmentation`](crate::rule::Segmentation)), with `COPY_SRC`,
    /// `COPY_DST` and `STORAGE` usage; none for rules without sums.
    pub fn tensor_states(&self) -> Option<BufferSlice<'_>> {
        let (buffer, segments) = (self.shared.segments.as_ref()?, self.plan.segments.as_ref()?);
        Some(buffer.slice(segments.state_bytes()))
    }

    pub(super) fn copyable(&self, params: FlatBuffer<'_>, reason: &'static str) -> Result<Vec<Piece>, Error> {
        let pieces = params.pieces("params", self.plan.len as u64)?;
        for piece in &pieces {
            let needed = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            check_usage("params", &piece.buffer, needed, reason)?;
        }
        Ok(pieces)
    }
}

/// Copies a flat space, however either side is cut.
pub(super) fn copy(encoder: &mut CommandEncoder, from: &[Piece], to: &[Piece]) {
    for source in from {
        for target in to {
            let (start, end) = (source.start.max(target.start), source.end().min(target.end()));
            if start < end {
                let offset = |piece: &Piece| piece.offset + (start - piece.start) * 4;
                let (read, write) = (offset(source), offset(target));
                encoder.copy_buffer_to_buffer(&source.buffer, read, &target.buffer, write, (end - start) * 4);
            }
        }
    }
}
