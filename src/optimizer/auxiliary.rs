use wgpu::{BufferSlice, BufferUsages, CommandEncoder};

use super::Optimizer;
use crate::gpu::{BufferRange, CopyIf, check_usage, copy_ranges, state_ranges};
use crate::plan::StepKind;
use crate::storage::Dtype;
use crate::{BufferSlices, Error};

const EVAL_COPIES: &str = ", because `eval` copies the training parameters and `train` copies them back";

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
        self.encode(encoder, head);
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

    /// Records the switch from training to evaluation parameters, for rules that have both
    /// ([`ScheduleFreeSgd`](crate::ScheduleFreeSgd), [`ScheduleFreeAdamW`](crate::ScheduleFreeAdamW)). `params` becomes
    /// what to evaluate and to save; the optimizer keeps a copy of the training parameters (4 bytes per parameter, from
    /// the first call on). Steps are refused until [`Optimizer::train`]. The mode changes with the call: submit the encoder
    /// before those of later calls. A dropped encoder leaves parameters and mode as they were, also if it is dropped after a
    /// later [`Optimizer::train`].
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`] for a rule without evaluation parameters, [`Error::EvaluationMode`] when called
    /// twice, [`Error::MissingUsage`] unless `params` has `STORAGE`, `COPY_SRC` and `COPY_DST`, and those of
    /// [`Optimizer::step`]; nothing was recorded then.
    pub fn eval<'a>(&mut self, encoder: &mut CommandEncoder, params: impl Into<BufferSlices<'a>>) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        let kind = StepKind::Auxiliary(self.plan.auxiliary("eval")?);
        self.plan.check_training("eval")?;
        let params = params.into();
        let ranges = self.copyable(params, EVAL_COPIES)?;
        let earlier = if self.may_evaluate() { Some(self.copy_to_train(&ranges)?) } else { None };
        if self.training_params.is_empty() {
            self.training_params = state_ranges(&self.device, "training params", 0.0, self.plan.layout.len() as u64);
        }
        let kept = self.training_params.clone();
        // The update reads no input; the copy takes its place.
        let input: Vec<BufferSlice<'_>> = kept.iter().map(BufferRange::slice).collect();
        self.bind(params, (&input).into(), kind)?;
        let head = self.plan.auxiliary_head()?;
        // If the `train` before this call was dropped, the training parameters are still the stored ones.
        if let Some(copy) = earlier {
            copy.record(encoder);
        }
        copy_ranges(encoder, &ranges, &kept);
        self.encode(encoder, head);
        encoder.copy_buffer_to_buffer(&self.resources.one, 0, &self.resources.persistent.evaluating, 0, 4);
        let before = self.host_state();
        self.plan.state.set_evaluating(true);
        self.remember_call(encoder, None, before);
        Ok(())
    }

    /// Records the switch back to training parameters: `params` has the bits from before [`Optimizer::eval`], and anything
    /// written into it since is lost, but for padding. Without an `eval` before, or with one whose encoder is dropped, it does
    /// nothing.
    ///
    /// # Errors
    /// As [`Optimizer::eval`], except [`Error::EvaluationMode`].
    pub fn train<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
    ) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        self.plan.auxiliary("eval")?;
        let ranges = self.copyable(params.into(), EVAL_COPIES)?;
        if self.may_evaluate() {
            self.copy_to_train(&ranges)?.record(encoder);
            encoder.clear_buffer(&self.resources.persistent.evaluating, 0, None);
            let before = self.host_state();
            self.plan.state.set_evaluating(false);
            self.remember_call(encoder, None, before);
        }
        Ok(())
    }

    /// Copies of the training parameters into `ranges`, if the device has evaluation parameters by then.
    fn copy_to_train(&self, ranges: &[BufferRange]) -> Result<CopyIf, Error> {
        let kernel = self.pipelines.copy_if(&self.plan)?;
        let lists = [[self.training_params.clone(), self.space.without_padding(ranges)]];
        CopyIf::new(&self.device, kernel, &self.resources.persistent.evaluating, &lists)
    }

    /// The tensor state of each segment ([`TensorState`](crate::rule::TensorState)), four f32 each in the layout's order
    /// (see [`ReduceBy`](crate::rule::ReduceBy)), with `COPY_SRC` usage; `None` for rules without sums.
    pub fn tensor_states(&self) -> Option<BufferSlice<'_>> {
        let (buffer, segments) = (self.resources.persistent.segments.as_ref()?, self.plan.segments.as_ref()?);
        Some(buffer.slice(segments.state_bytes()))
    }

    /// The parameters, if they can be copied from and to.
    pub(super) fn copyable(&self, params: BufferSlices<'_>, reason: &'static str) -> Result<Vec<BufferRange>, Error> {
        let ranges = params.ranges("params", Dtype::F32, &self.space)?;
        for range in &ranges {
            let needed = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            check_usage("params", &range.buffer, needed, reason)?;
        }
        Ok(ranges)
    }
}
