//! Checkpoints of the device engine.

use std::io::{Read, Seek, Write};
use std::mem::offset_of;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::sync::Arc;

use wgpu::{Buffer, BufferUsages};

use super::checkpoint_source::{SavingContext, Source};
use super::{Optimizer, Snapshot};
#[cfg(not(target_arch = "wasm32"))]
use crate::checkpoint::replace_file;
use crate::checkpoint::{Checkpoint, CheckpointError, Contents, LoadOptions, Loaded, Part, SmallState, TensorFile};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
use crate::gpu::{BufferRange, Transfer, check_usage, check_word_starts, cut_word, stream_ranges};
use crate::kernels::control::{ControlBlock, NONE};
use crate::plan::{Mode, StepPlan};
use crate::{BufferSlices, Error, TensorInfo};

pub(super) const SAVED: &str = ", because `save` copies the parameters";
pub(super) const LOADED: &str = ", because `load` writes the parameters";

impl Optimizer {
    /// Saves the optimizer, and `params` if they are given, to a file: see [`checkpoint`](crate::checkpoint). Saves the state
    /// after all submitted work; submit the encoders of earlier calls before. Waits for the device. An error or an
    /// interruption leaves an older file as it is.
    ///
    /// Takes two windows of [`OptimizerBuilder::checkpoint_window`](crate::OptimizerBuilder::checkpoint_window) on the host.
    /// [`Snapshot::save`](crate::Snapshot::save) saves while training goes on.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::Device`], and [`CheckpointError::Optimizer`] with the errors of
    /// [`Optimizer::step`] that concern `params`, which also need `COPY_SRC`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: impl AsRef<Path>, params: Option<BufferSlices<'_>>) -> Result<(), CheckpointError> {
        replace_file(path.as_ref(), |file| block_on(&self.device, self.save_to(file, params)))
    }

    /// As [`Optimizer::save`], into a stream. The device must be polled while the future is pending; browsers do that by
    /// themselves. Submit no step in the meantime: it would change the second half of the file.
    ///
    /// # Errors
    /// [`CheckpointError::Stream`], and those of [`Optimizer::save`].
    pub async fn save_to(&self, out: impl Write, params: Option<BufferSlices<'_>>) -> Result<(), CheckpointError> {
        self.plan.check_whole("save")?;
        let params = self.loadable(params, BufferUsages::COPY_SRC, SAVED)?;
        let state = self.host_state().plan;
        self.source(params.as_deref()).save(self.transfer(), &self.plan, &state, out).await
    }

    /// Continues from a file: the optimizer, and `params` if they are given. Tensors are matched by their names. The file is
    /// checked before anything changes. Takes effect with the next submission, for steps recorded from now on: first submit
    /// encoders with earlier steps.
    ///
    /// A gradient scale that a buffer holds stays bound.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::load`](crate::CpuOptimizer::load), and [`CheckpointError::Device`]. `params` also need
    /// `COPY_DST`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(
        &mut self,
        path: impl AsRef<Path>,
        params: Option<BufferSlices<'_>>,
        options: &LoadOptions,
    ) -> Result<Loaded, CheckpointError> {
        self.load_from(&mut Checkpoint::open(path)?, params, options)
    }

    /// As [`Optimizer::load`], from an open checkpoint.
    ///
    /// # Errors
    /// Those of [`Optimizer::load`].
    pub fn load_from<R: Read + Seek>(
        &mut self,
        checkpoint: &mut Checkpoint<R>,
        params: Option<BufferSlices<'_>>,
        options: &LoadOptions,
    ) -> Result<Loaded, CheckpointError> {
        self.undo_dropped_calls()?;
        let params = self.loadable(params, BufferUsages::COPY_DST, LOADED)?;
        if params.is_none() {
            // The file's mode would forget the stored parameters.
            self.plan.check_training("load")?;
        }
        let Contents { state, small, parts, loaded } = checkpoint.check(&self.plan, params.is_some(), options)?;
        if *state.mode != Mode::Training && self.training_params.is_empty() {
            let len = self.plan.layout.len() as u64;
            let dtype = self.plan.settings.precision.params.dtype();
            let allocated = || stream_ranges(&self.device, "training params", (dtype, 0.0), len);
            self.training_params = self.transfer().allocate(allocated)?;
        }
        self.transfer().allocate(|| {
            // A file without an accumulator has no sum.
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.clear_accumulated(&mut encoder);
            self.queue.submit([encoder.finish()]);
        })?;
        // A file of an optimizer without such counts has no steps of rows and tensors.
        let steps = small.stats.step as u32;
        self.transfer().allocate(|| {
            self.set_tensor_steps(steps);
            self.set_row_steps(steps);
        })?;
        self.set_scalar_states(&small.scalar_states)?;
        self.write_parts(&mut checkpoint.file, &parts, params.as_deref())?;
        self.plan.restore(&state)?;
        self.transfer().allocate(|| self.load_small(&small))?;
        Ok(loaded)
    }

    /// Writes parts of a file, a window at a time.
    pub(super) fn write_parts<R: Read + Seek>(
        &self,
        file: &mut TensorFile<R>,
        parts: &[Part],
        params: Option<&[BufferRange]>,
    ) -> Result<(), CheckpointError> {
        let (source, transfer, mut written) = (self.source(params), self.transfer(), None);
        for part in parts {
            let mut targets = source.bytes_of(&self.plan, &part.entry).into_iter();
            let mut target = targets.next();
            file.read(part, transfer.window as usize, |bytes| {
                let mut rest = bytes;
                while let Some(to) = target.as_mut().filter(|_| !rest.is_empty()) {
                    let (now, later) = rest.split_at(rest.len().min(to.size as usize));
                    transfer.write(&to.buffer, to.offset, now, &mut written)?;
                    (to.offset, to.size, rest) = (to.offset + now.len() as u64, to.size - now.len() as u64, later);
                    if to.size == 0 {
                        target = targets.next();
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes the control block and the small tables.
    fn load_small(&self, small: &SmallState) {
        let write = |buffer: Option<&Buffer>, offset: u64, bytes: Option<&[u8]>| {
            if let (Some(buffer), Some(bytes)) = (buffer, bytes) {
                self.queue.write_buffer(buffer, offset, bytes);
            }
        };
        let resources = &self.resources;
        write(Some(&resources.persistent.control), 0, Some(bytemuck::bytes_of(&small.block(&self.plan))));
        // A step expects the word of its parity to be free.
        let first_nonfinite = offset_of!(ControlBlock, first_nonfinite) as u64;
        write(Some(&resources.persistent.next), first_nonfinite, Some(bytemuck::bytes_of(&[NONE; 2])));
        let replaced = u32::from(*self.plan.state.mode != Mode::Training);
        write(Some(&resources.persistent.params_replaced), 0, Some(bytemuck::bytes_of(&replaced)));
        let norms = self.plan.norm_window().map(|window| small.norms_table(window));
        write(resources.persistent.norms.as_ref(), 0, norms.as_deref().map(bytemuck::cast_slice));
        let loss_scale = small.loss_scale();
        write(
            resources.persistent.loss_scale.as_ref(),
            0,
            loss_scale.as_ref().map(|words| bytemuck::cast_slice(words)),
        );
        let sums = self.plan.sampler.as_ref().map_or(0, |sampler| sampler.record_bytes().start);
        write(resources.persistent.metric_table.as_ref(), sums, Some(&small.metrics));
        let ring = small.ring(&self.plan, self.plan.state.recorded);
        write(self.history.as_ref().map(|history| &history.ring), 0, ring.as_deref());
    }

    /// The parameters, if they have the usage.
    pub(super) fn loadable(
        &self,
        params: Option<BufferSlices<'_>>,
        needed: BufferUsages,
        reason: &'static str,
    ) -> Result<Option<Vec<BufferRange>>, Error> {
        check_tensor_starts(&self.plan)?;
        let Some(params) = params else { return Ok(None) };
        let ranges = params.ranges("params", self.plan.settings.precision.params.dtype(), &self.space)?;
        check_word_starts(&ranges, "params")?;
        for range in &ranges {
            check_usage("params", &range.buffer, needed, reason)?;
        }
        Ok(Some(ranges))
    }

    pub(super) fn transfer(&self) -> Transfer<'_> {
        let window = self.options.checkpoint_window.min(self.device.limits().max_buffer_size) / 4 * 4;
        Transfer { device: &self.device, queue: &self.queue, window }
    }

    pub(super) fn source<'a>(&'a self, params: Option<&'a [BufferRange]>) -> Source<'a> {
        Source {
            params,
            training_params: &self.training_params,
            accumulated: &self.accumulated,
            persistent: &self.resources.persistent,
            ring: self.history.as_ref().map(|history| &history.ring),
        }
    }

    pub(super) fn saving_context(&self) -> SavingContext {
        let Transfer { device, queue, window } = self.transfer();
        let plan = self.saving_plan.get_or_init(|| Arc::new(self.plan.clone())).clone();
        SavingContext { device: device.clone(), queue: queue.clone(), plan, window }
    }
}

/// Refuses 16-bit tensors that begin within a word: copies move whole words.
fn check_tensor_starts(plan: &StepPlan) -> Result<(), Error> {
    let is_cut = |tensor: &&TensorInfo| !tensor.range().is_empty() && !tensor.range().start.is_multiple_of(2);
    match plan.layout.tensors().iter().find(is_cut).filter(|_| !plan.settings.precision.is_f32()) {
        None => Ok(()),
        Some(tensor) => Err(cut_word("a checkpoint with parameters or states", tensor.range().start as u64)),
    }
}

impl Snapshot {
    /// Saves parameters and optimizer as they were at the time of the snapshot: see [`checkpoint`](crate::checkpoint). Call it
    /// after the snapshot's encoder was submitted, from any thread; training may go on. Waits for the device. An error or an
    /// interruption leaves an older file as it is.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::Device`]; [`CheckpointError::Optimizer`] with
    /// [`Error::SnapshotDropped`] if the encoder was dropped.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
        replace_file(path.as_ref(), |file| block_on(&self.saving.device, self.save_to(file)))
    }

    /// As [`Snapshot::save`], into a stream. The device must be polled while the future is pending; browsers do that by
    /// themselves.
    ///
    /// # Errors
    /// [`CheckpointError::Stream`], and those of [`Snapshot::save`].
    pub async fn save_to(&self, out: impl Write) -> Result<(), CheckpointError> {
        if self.submission.was_dropped() {
            return Err(Error::SnapshotDropped.into());
        }
        let SavingContext { device, queue, plan, window } = &self.saving;
        plan.check_whole("save")?;
        check_tensor_starts(plan)?;
        let mut host = self.host.clone();
        self.calls.undo_dropped(&mut host);
        let source = Source {
            params: Some(&self.params),
            training_params: &self.training_params,
            accumulated: &self.accumulated,
            persistent: &self.persistent,
            ring: self.ring.as_ref(),
        };
        source.save(Transfer { device, queue, window: *window }, plan, &host.plan, out).await
    }
}
