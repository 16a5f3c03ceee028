//! Other parameters in the place of the training parameters: for evaluation, or perturbed.

use wgpu::{BufferSlice, BufferUsages, CommandEncoder};

use super::Optimizer;
use crate::gpu::{BufferRange, check_usage, check_word_starts, copy_ranges, joined, stream_ranges};
use crate::plan::{Mode, StepKind, StepPlan};
use crate::{BufferSlices, Error};

const MODE_COPIES: &str =
    ", because `eval` and `perturb` copy the training parameters, and `train` and `step` copy them back";

impl Optimizer {
    /// Records the switch from training to evaluation parameters, for averages and for rules that have both
    /// ([`ScheduleFreeSgd`](crate::ScheduleFreeSgd), [`ScheduleFreeAdamW`](crate::ScheduleFreeAdamW)). `params` becomes
    /// what to evaluate and to save; the optimizer keeps a copy of the training parameters (in their format, from the
    /// first call on). Steps are refused until [`Optimizer::train`]. The mode changes with the call: submit the encoder
    /// before those of later calls. A dropped encoder leaves parameters and mode as they were, also if it is dropped after a
    /// later [`Optimizer::train`].
    ///
    /// # Errors
    /// [`Error::UnknownAuxiliaryUpdate`] for a rule without evaluation parameters, [`Error::EvaluationMode`] when called
    /// twice, [`Error::Perturbed`] between [`Optimizer::perturb`] and the step, [`Error::MissingUsage`] unless `params` has
    /// `STORAGE`, `COPY_SRC` and `COPY_DST`, and those of [`Optimizer::step`]; nothing was recorded then.
    pub fn eval<'a>(&mut self, encoder: &mut CommandEncoder, params: impl Into<BufferSlices<'a>>) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        let kind = StepKind::Auxiliary(self.plan.auxiliary("eval")?);
        self.plan.check_training("eval")?;
        let params = params.into();
        let ranges = self.copyable(params, MODE_COPIES)?;
        let copies = self.stored_params();
        // The update reads no input; the copy takes its place.
        let input: Vec<BufferSlice<'_>> = copies.iter().map(BufferRange::slice).collect();
        let is_replaced = self.bind_restoration_if_replaced(params)?;
        self.bind(params, (&input).into(), kind)?;
        let head = self.plan.auxiliary_head()?;
        self.store_training_params(encoder, &ranges, is_replaced);
        self.encode(encoder, kind, head);
        self.set_mode(encoder, Mode::Evaluation);
        Ok(())
    }

    /// Records the perturbation of `params` along `grads`, for the second gradient of [`Sam`](crate::Sam). The optimizer keeps
    /// a copy of the training parameters, from which the next [`Optimizer::step`] starts. [`Optimizer::train`] restores them
    /// without a step. No step is counted. A dropped encoder leaves parameters and mode as they were.
    ///
    /// Gradients come in the format of [`Optimizer::step`]. Clipping and the gradient scale have no effect on the direction.
    /// The device moves 24 bytes per parameter with f32 gradients (4 more for adaptive SAM): the norm, the copy, the
    /// perturbation. The step moves 8 more than without: the copy back.
    ///
    /// ```no_run
    /// # fn gradients(_: &mut wgpu_optim::wgpu::CommandEncoder) {}
    /// # fn f(device: &wgpu_optim::wgpu::Device, optimizer: &mut wgpu_optim::Optimizer,
    /// #     params: &wgpu_optim::wgpu::Buffer, grads: &wgpu_optim::wgpu::Buffer) -> Result<(), wgpu_optim::Error> {
    /// let mut encoder = device.create_command_encoder(&Default::default());
    /// gradients(&mut encoder); // at the parameters
    /// optimizer.perturb(&mut encoder, params, grads)?;
    /// gradients(&mut encoder); // at the perturbed parameters
    /// optimizer.step(&mut encoder, params, grads)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSam`], [`Error::EvaluationMode`], [`Error::Perturbed`] when called twice, [`Error::MissingUsage`] unless
    /// `params` has `STORAGE`, `COPY_SRC` and `COPY_DST`, and those of [`Optimizer::step`] that concern buffers; nothing was
    /// recorded then. For adaptive SAM, gradients also need `COPY_SRC` if those slices or the parameters' are not cut at
    /// multiples of 8,192 elements.
    pub fn perturb<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
        grads: impl Into<BufferSlices<'a>>,
    ) -> Result<(), Error> {
        self.record_perturbation(encoder, params.into(), grads.into(), true)
    }

    fn record_perturbation(
        &mut self,
        encoder: &mut CommandEncoder,
        params: BufferSlices<'_>,
        grads: BufferSlices<'_>,
        gathers: bool,
    ) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        self.plan.sam()?;
        self.plan.check_training("perturb")?;
        let ranges = self.copyable(params, MODE_COPIES)?;
        let is_replaced = self.bind_restoration_if_replaced(params)?;
        let copies = if gathers { self.gather(params, grads, StepKind::Perturb)? } else { None };
        self.bind_gathered(params, grads, copies.as_ref(), StepKind::Perturb)?;
        self.store_training_params(encoder, &ranges, is_replaced);
        Self::record_copies(encoder, copies.as_ref());
        self.encode(encoder, StepKind::Perturb, StepPlan::empty_head());
        self.set_mode(encoder, Mode::Perturbed);
        Ok(())
    }

    /// As [`Optimizer::perturb`] with the accumulated gradients, which are 0 after it.
    ///
    /// # Errors
    /// [`Error::NoAccumulator`], and those of [`Optimizer::perturb`]; nothing was recorded then.
    pub fn perturb_accumulated<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
    ) -> Result<(), Error> {
        let params = params.into();
        self.with_accumulated(encoder, |optimizer, encoder, grads| {
            optimizer.record_perturbation(encoder, params, grads, false)
        })
    }

    /// Records the switch back to training parameters: `params` has the bits from before [`Optimizer::eval`] or
    /// [`Optimizer::perturb`]. Anything written into it since is lost, but for padding and frozen elements. Without such a call
    /// before, or with one whose encoder is dropped, it does nothing.
    ///
    /// # Errors
    /// As [`Optimizer::eval`], except [`Error::EvaluationMode`] and [`Error::Perturbed`].
    pub fn train<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
    ) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        self.plan.check_replaces_params()?;
        let params = params.into();
        self.copyable(params, MODE_COPIES)?;
        if self.bind_restoration_if_replaced(params)? {
            self.restore_training_params(encoder);
        }
        Ok(())
    }

    /// Records the bound way back to the training parameters, if the device has others in their place by then, and the mode.
    pub(super) fn restore_training_params(&mut self, encoder: &mut CommandEncoder) {
        self.encode(encoder, StepKind::Restore, StepPlan::empty_head());
        encoder.clear_buffer(&self.resources.persistent.params_replaced, 0, None);
        let before = self.host_state();
        self.plan.state.set_mode(Mode::Training);
        self.remember_call(encoder, None, before);
    }

    /// Records copies of the parameters, which become the training parameters; first the bound way back, if they may be
    /// replaced.
    fn store_training_params(&mut self, encoder: &mut CommandEncoder, ranges: &[BufferRange], is_replaced: bool) {
        // If the encoder of an earlier restoration is dropped, the training parameters are still the stored ones.
        if is_replaced {
            self.encode(encoder, StepKind::Restore, StepPlan::empty_head());
        }
        copy_ranges(encoder, ranges, &self.stored_params());
    }

    /// Records the mode, after the parameters were replaced.
    fn set_mode(&mut self, encoder: &mut CommandEncoder, mode: Mode) {
        encoder.copy_buffer_to_buffer(&self.resources.one, 0, &self.resources.persistent.params_replaced, 0, 4);
        let before = self.host_state();
        self.plan.state.set_mode(mode);
        self.remember_call(encoder, None, before);
    }

    /// The ranges of the stored training parameters, created at the first call.
    fn stored_params(&mut self) -> Vec<BufferRange> {
        if self.training_params.is_empty() {
            self.training_params = stream_ranges(
                &self.device,
                "training params",
                (self.plan.settings.precision.params.dtype(), 0.0),
                self.plan.layout.len() as u64,
            );
        }
        self.training_params.clone()
    }

    /// Binds the way back if others may have the place of the training parameters, and returns that.
    pub(super) fn bind_restoration_if_replaced(&mut self, params: BufferSlices<'_>) -> Result<bool, Error> {
        let is_replaced = self.may_be_replaced();
        if is_replaced {
            self.bind_restoration(params)?;
        }
        Ok(is_replaced)
    }

    /// Binds the way back to the training parameters.
    pub(super) fn bind_restoration(&mut self, params: BufferSlices<'_>) -> Result<(), Error> {
        let stored = self.stored_params();
        let stored: Vec<BufferSlice<'_>> = stored.iter().map(BufferRange::slice).collect();
        self.bind(params, (&stored).into(), StepKind::Restore)
    }

    /// The parameters, if they can be copied from and to.
    pub(super) fn copyable(&self, params: BufferSlices<'_>, reason: &'static str) -> Result<Vec<BufferRange>, Error> {
        // Neighbors need one copy.
        let dtype = self.plan.settings.precision.params.dtype();
        let ranges = joined(&params.ranges("params", dtype, &self.space)?);
        check_word_starts(&ranges, "params")?;
        for range in &ranges {
            let needed = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            check_usage("params", &range.buffer, needed, reason)?;
        }
        Ok(ranges)
    }
}
