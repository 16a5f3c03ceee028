mod accumulate;
mod auxiliary;
#[cfg(feature = "safetensors")]
mod checkpoint;
#[cfg(feature = "safetensors")]
mod checkpoint_source;
mod gather;
mod given_states;
mod missing;
mod mode;
#[cfg(feature = "safetensors")]
mod params;
mod remap;
mod rows;
#[cfg(not(target_arch = "wasm32"))]
mod shared;
mod snapshot;
mod undo;

use wgpu::{BindGroup, Buffer, BufferSlice, BufferUsages, CommandEncoder};

use crate::factors::NAMES;
use crate::gpu::shader::Variant;
use crate::gpu::{
    self, BufferRange, BufferSlices, FlatSpace, GivenStates, OwnedSlices, Pipelines, PreparedStep, RecordedCalls,
    Remaps, Resources, RowBuffers, SharedPipelines, StepContext, StepUniforms, check_limit, decide_bind_group,
    gathered_ranges, stream_ranges,
};
use crate::kernels::bias_correction::BiasPowers;
use crate::kernels::control::{ControlBlock, StepHead};
use crate::metrics::{DeviceHistory, Readback, ReadbackHistory, ReadbackStats, StagingPool};
use crate::plan::{Pass, PlanSettings, StepKind, StepPlan};
use crate::storage::Dtype;
use crate::{Error, Formats, Layout};
pub use remap::Remap;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use shared::DeviceStream;
pub use snapshot::Snapshot;

/// The divisor of all gradients: the loss scale of mixed-precision training.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum GradScale<'a> {
    /// A positive normal value with a normal f32 inverse.
    Value(f32),
    /// The first f32 of a buffer with `STORAGE` usage, read when the step executes.
    Buffer(&'a Buffer),
}

impl From<f32> for GradScale<'_> {
    fn from(scale: f32) -> Self {
        Self::Value(scale)
    }
}

impl<'a> From<&'a Buffer> for GradScale<'a> {
    fn from(scale: &'a Buffer) -> Self {
        Self::Buffer(scale)
    }
}

/// The passes of a step that are not recorded yet.
#[derive(Debug)]
struct WaitingStep {
    kind: StepKind,
    /// Bind group 1, and its offsets.
    uniforms: (BindGroup, [u32; 2]),
    /// `None` for all passes of the step.
    passes: Option<Vec<Pass>>,
}

/// The settings that concern the device alone.
#[derive(Debug, Clone)]
pub(crate) struct DeviceOptions {
    /// Maximum prepared steps of each kind.
    pub(crate) cached_buffer_sets: usize,
    /// Maximum bytes that a checkpoint moves at a time.
    #[cfg_attr(not(feature = "safetensors"), allow(dead_code, reason = "nothing moves without checkpoints"))]
    pub(crate) checkpoint_window: u64,
    /// True if gradients are copied into a buffer of the optimizer first.
    pub(crate) gathers_gradients: bool,
    /// The buffers that the program gave, by the name of the state; the later of two counts.
    pub(crate) states: Vec<(String, OwnedSlices)>,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self { cached_buffer_sets: 8, checkpoint_window: 16 << 20, gathers_gradients: false, states: Vec::new() }
    }
}

/// The optimizer on a device: a rule, its states and the step counter, all on the GPU.
///
/// [`Optimizer::step`] records into the training program's encoder; it never submits, maps, polls or waits. Several steps
/// in one submission equal the same steps in several.
#[derive(Debug)]
pub struct Optimizer {
    device: wgpu::Device,
    queue: wgpu::Queue,
    plan: StepPlan,
    space: FlatSpace,
    pipelines: Pipelines,
    resources: Resources,
    uniforms: StepUniforms,
    /// Buffer of the gradient scale: the unit scale if the host gives the value.
    grad_scale: Buffer,
    /// Bind groups of `decide` by the buffer of the gradient scale, the last used first.
    decide: Vec<(Buffer, BindGroup)>,
    /// Prepared steps, the last used first.
    prepared: Vec<PreparedStep>,
    options: DeviceOptions,
    /// The copy that `eval` and `perturb` make for `train`; empty before the first.
    training_params: Vec<BufferRange>,
    /// Copies of the gradients, in which kernels find them; empty unless the optimizer gathers.
    gathered: Vec<BufferRange>,
    /// The weighted sum of gradients since the last step; empty unless the optimizer accumulates.
    accumulated: Vec<BufferRange>,
    /// Made by the first remap.
    remaps: Option<Remaps>,
    calls: RecordedCalls,
    staging: StagingPool,
    history: Option<DeviceHistory>,
    row_buffers: RowBuffers,
    /// The pass whose sums others complete, and the step that waits for them.
    waiting: Option<(Pass, WaitingStep)>,
    /// The plan that snapshots are saved with; they share it.
    #[cfg(feature = "safetensors")]
    saving_plan: std::sync::OnceLock<std::sync::Arc<StepPlan>>,
}

impl Optimizer {
    pub(crate) fn new(
        pipelines: &SharedPipelines,
        queue: &wgpu::Queue,
        settings: &PlanSettings,
        options: DeviceOptions,
        layout: &Layout,
    ) -> Result<Self, Error> {
        let device = &pipelines.device;
        let mut plan = StepPlan::new(settings, layout)?;
        let ring_size = plan.ring_size();
        if let Some(size) = ring_size {
            check_limit("max_buffer_size", size, device.limits().max_buffer_size)?;
        }
        let tensors = layout.tensors().iter().map(|tensor| tensor.range().start as u64..tensor.range().end as u64);
        let space = FlatSpace { len: plan.layout.len() as u64, tensors: tensors.collect() };
        if settings.share.is_some() && !options.states.is_empty() {
            return Err(Error::Unsupported {
                what: "`state_buffers`".to_owned(),
                with: "a sharded optimizer, whose ranks keep states of different lengths".to_owned(),
                remedy: "leave it out",
            });
        }
        let given = GivenStates::new(&options.states, &plan, &space, &device.limits())?;
        let resources = Resources::new(device, &mut plan, given)?;
        let pipelines = Pipelines::new(pipelines, &plan)?;
        let has_rows = plan.groups.rows().is_some();
        let uniforms = StepUniforms::new(plan.rule.spec(), plan.groups.lr_quads(), has_rows, plan.cycles_momentum());
        let uniform = uniforms.size().max(size_of::<BiasPowers>() as u64);
        check_limit("max_uniform_buffer_binding_size", uniform, device.limits().max_uniform_buffer_binding_size)?;
        check_limit("max_buffer_size", uniforms.buffer_size(), device.limits().max_buffer_size)?;
        let len = if settings.accumulates { layout.len() as u64 } else { 0 };
        let accumulated = stream_ranges(device, "accumulated gradients", (Dtype::F32, 0.0), len);
        let gathered = if options.gathers_gradients { gathered_ranges(device, &plan) } else { Vec::new() };
        resources.given.initialize(device, queue, &plan);
        Ok(Self {
            device: device.clone(),
            queue: queue.clone(),
            space,
            plan,
            pipelines,
            grad_scale: resources.unit_scale.clone(),
            resources,
            uniforms,
            decide: Vec::new(),
            prepared: Vec::new(),
            options,
            training_params: Vec::new(),
            gathered,
            accumulated,
            remaps: None,
            calls: RecordedCalls::default(),
            staging: StagingPool::default(),
            history: ring_size.map(|size| DeviceHistory::new(device, size)),
            row_buffers: RowBuffers::default(),
            waiting: None,
            #[cfg(feature = "safetensors")]
            saving_plan: std::sync::OnceLock::new(),
        })
    }

    /// Records one step: updates `params` from `grads`. In an encoder that is dropped it has no effect, except that the
    /// schedule counts it.
    ///
    /// Both hold the elements of the layout, in one buffer, a slice or a list of slices ([`BufferSlices`]), with `STORAGE`
    /// usage. Gradients in slices that are not cut at multiples of 8,192 elements also need `COPY_SRC` where the norm is
    /// computed. Submit the encoder to the queue that the optimizer was built with.
    ///
    /// # Performance considerations
    /// A single-pass step is one dispatch per chunk, and chunks are as large as the device's bindings. It needs no clipping
    /// but by value, no gradient scale, [`NonFinite::Propagate`](crate::NonFinite::Propagate), and no sums. Other steps take
    /// more dispatches: see the table in `docs/rules.md`. The bind groups of the buffer sets used last are kept
    /// ([`OptimizerBuilder::cached_buffer_sets`](crate::OptimizerBuilder::cached_buffer_sets)): a step over known buffers creates no wgpu object.
    /// Gradients at the same places of other buffers make bind groups, and no other object;
    /// [`OptimizerBuilder::gather_gradients`](crate::OptimizerBuilder::gather_gradients) spares these.
    ///
    /// # Errors
    /// A refused step records and counts nothing.
    ///
    /// - Slices: [`Error::LengthMismatch`], [`Error::MissingUsage`], [`Error::MisalignedSlice`],
    ///   [`Error::OverlappingSlices`], [`Error::AliasedSlices`], [`Error::AliasedBuffers`], [`Error::SharedState`],
    ///   [`Error::CutTensor`]. [`Error::Unsupported`] for 16-bit parameters, and beside 16-bit states, whose slices begin at odd
    ///   elements; for such gradients, if the step sums over all of them or gathers them.
    /// - Missing gradients: [`Error::MissingGradient`], [`Error::GradientCount`], [`Error::GradientLength`].
    /// - Mode and schedule: [`Error::EvaluationMode`], and those of [`Schedule::lr`](crate::Schedule::lr).
    /// - Kernels: [`Error::Shader`] if the device's compiler refuses one: see [`Optimizer::compiled`].
    pub fn step<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
        grads: impl Into<BufferSlices<'a>>,
    ) -> Result<(), Error> {
        self.record_step(encoder, params.into(), grads.into(), true)
    }

    fn record_step(
        &mut self,
        encoder: &mut CommandEncoder,
        params: BufferSlices<'_>,
        grads: BufferSlices<'_>,
        gathers: bool,
    ) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        self.plan.check_step()?;
        self.check_optional(grads)?;
        let is_replaced = self.bind_restoration_if_replaced(params)?;
        let kind = self.plan.next_kind();
        let copies = if gathers { self.gather(params, grads, kind)? } else { None };
        self.bind_gathered(params, grads, copies.as_ref(), kind)?;
        let head = self.plan.next_head()?;
        Self::record_copies(encoder, copies.as_ref());
        if is_replaced {
            self.restore_training_params(encoder);
        }
        self.encode(encoder, kind, head);
        Ok(())
    }

    /// Compiles the kernels, and binds these buffers, for steps and auxiliary updates: the first step then takes no longer
    /// than the others. With an accumulator, `grads` are those of [`Optimizer::accumulate`], and the steps are those of
    /// [`Optimizer::step_accumulated`]. With gradients of another format than f32, auxiliary updates compile when they are first
    /// recorded.
    ///
    /// # Errors
    /// The errors of [`Optimizer::step`] about buffers.
    pub fn prepare<'a>(
        &mut self,
        params: impl Into<BufferSlices<'a>>,
        grads: impl Into<BufferSlices<'a>>,
    ) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        let (params, grads) = (params.into(), grads.into());
        self.check_optional(grads)?;
        let accumulated = self.accumulated.clone();
        let slices: Vec<BufferSlice<'_>> = accumulated.iter().map(BufferRange::slice).collect();
        let accumulator = BufferSlices::from(&slices);
        let (next, accumulates) = (self.plan.next_kind(), self.plan.settings.accumulates);
        // Binds the next step's kind last: it then stands first in the cache.
        let kinds = self.plan.kinds().into_iter().filter(|&kind| kind != next && self.plan.may_follow(kind));
        for kind in kinds.collect::<Vec<_>>().into_iter().chain([next]) {
            let (params, grads, gathers) = match kind {
                // Rules with evaluation parameters store them at the first `eval`.
                StepKind::Restore if self.plan.settings.sam.is_none() => continue,
                StepKind::Restore => {
                    self.bind_restoration(params)?;
                    continue;
                }
                StepKind::Accumulate => (accumulator, grads, true),
                StepKind::Auxiliary(_) => {
                    // Gradients of another format cannot stand in for the input of an auxiliary update, which is f32.
                    if self.plan.input_dtype(kind) != self.plan.settings.precision.grads {
                        continue;
                    }
                    (params, grads, false)
                }
                _ if accumulates => (params, accumulator, false),
                _ => (params, grads, true),
            };
            let copies = if gathers { self.gather(params, grads, kind)? } else { None };
            self.bind_gathered(params, grads, copies.as_ref(), kind)?;
        }
        Ok(())
    }

    /// Resolves once the device has compiled all kernels so far: those of [`Optimizer::prepare`], or of earlier calls.
    /// Browsers compile after the call; elsewhere the future is ready at once. Without it, the error of a browser's compiler
    /// comes from the first call after the browser reported it, and the calls before have no effect.
    ///
    /// ```no_run
    /// # use wgpu_optim::{AdamW, Gpu, Layout, Optimizer, wgpu};
    /// # async fn f(gpu: Gpu, params: wgpu::Buffer, grads: wgpu::Buffer) -> Result<(), wgpu_optim::Error> {
    /// let builder = Optimizer::builder(AdamW::default());
    /// let mut optimizer = builder.build(&gpu.device, &gpu.queue, &Layout::flat(1_000)?)?;
    /// optimizer.prepare(&params, &grads)?;
    /// optimizer.compiled().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shader`] with the lines that the device's compiler refuses.
    pub async fn compiled(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|context| self.pipelines.poll_accepted(context)).await
    }

    /// Records the step of that kind that was bound last; callers bind first.
    fn encode(&mut self, encoder: &mut CommandEncoder, kind: StepKind, head: StepHead) {
        if self.plan.cycles_momentum() {
            self.uniforms.set_spec(self.plan.rule.spec());
        }
        let layout = &self.pipelines.uniforms_layout;
        let scalars = (head, self.plan.groups.lrs(), self.row_words());
        let on = (&self.device, &self.queue);
        let uniforms = self.uniforms.write(on, encoder, layout, &self.resources.powers, scalars);
        self.row_buffers.record(encoder, &uniforms, &self.plan.groups, &self.resources);
        let uniforms = (uniforms.bind_group.clone(), uniforms.offsets);
        let passes = self.plan.settings.share.as_ref().map(|_| self.plan.passes(kind).collect());
        // An earlier step that was given up waits no more.
        self.waiting = None;
        self.encode_passes(encoder, WaitingStep { kind, uniforms, passes });
    }

    /// Records passes of the step that was bound last, of a share up to the next sums that others complete.
    fn encode_passes(&mut self, encoder: &mut CommandEncoder, WaitingStep { kind, uniforms, mut passes }: WaitingStep) {
        let rest = passes.as_mut().and_then(|passes| {
            let sums = passes.iter().position(|pass| pass.sums_parts())?;
            Some((passes[sums], passes.split_off(sums + 1)))
        });
        let Some(step) = self.prepared.iter().find(|step| step.kind == kind) else { return };
        let decide = self.decide.first().map(|(_, group)| group);
        gpu::encode(encoder, (step, passes.as_deref()), &self.resources, (&uniforms.0, &uniforms.1), decide);
        if let Some((sums, rest)) = rest {
            self.waiting = Some((sums, WaitingStep { kind, uniforms, passes: Some(rest) }));
            return;
        }
        if let Some(history) = self.history.as_ref().filter(|_| kind.is_step()) {
            let sums = self.metric_sums().filter(|_| kind == StepKind::Sampled);
            let size = self.plan.decoder().record_size();
            history.keep(encoder, size, self.plan.state.recorded, &self.resources.persistent.control, sums);
        }
    }

    /// Puts the prepared step for these buffers first, prepared anew if it is not kept.
    fn bind(&mut self, params: BufferSlices<'_>, grads: BufferSlices<'_>, kind: StepKind) -> Result<(), Error> {
        self.pipelines.check()?;
        if kind.is_decided() {
            self.bind_decide()?;
        }
        if move_to_front(&mut self.prepared, |step| step.is_for(params, grads, kind)) {
            return Ok(());
        }
        let context = StepContext {
            device: &self.device,
            pipelines: &mut self.pipelines,
            resources: &self.resources,
            plan: &self.plan,
            space: &self.space,
            present: None,
        };
        let moved = self.prepared.iter().find_map(|step| step.moved(&context, params, grads, kind));
        let step = moved.map_or_else(|| PreparedStep::new(context, params, grads, kind), Ok)?;
        self.prepared.insert(0, step);
        let of_kind = |step: &PreparedStep| step.kind == kind;
        if self.prepared.iter().filter(|step| of_kind(step)).count() > self.options.cached_buffer_sets {
            let oldest = self.prepared.iter().rposition(of_kind);
            oldest.map(|oldest| self.prepared.remove(oldest));
        }
        Ok(())
    }

    /// Puts the bind group of `decide` for the present gradient scale first.
    fn bind_decide(&mut self) -> Result<(), Error> {
        if move_to_front(&mut self.decide, |(scale, _)| *scale == self.grad_scale) {
            return Ok(());
        }
        let kernel = self.pipelines.get(&self.plan, Pass::Decide, Variant::FIXED)?;
        let group = decide_bind_group(&self.device, &kernel, &self.resources, &self.grad_scale);
        self.decide.insert(0, (self.grad_scale.clone(), group));
        // One more than of prepared steps: the unit scale stays among them in most programs.
        self.decide.truncate(self.options.cached_buffer_sets + 1);
        Ok(())
    }

    /// Requests the statistics of the last step recorded before: appends a copy of 128 bytes to the encoder, and one of 48
    /// or more if the optimizer samples metrics. No step waits for it.
    ///
    /// The value arrives after the encoder was submitted and the device was polled: see [`Readback`].
    pub fn stats(&self, encoder: &mut CommandEncoder) -> ReadbackStats {
        let control = (&self.resources.persistent.control, 0..size_of::<ControlBlock>() as u64);
        let parts: Vec<_> = [control].into_iter().chain(self.metric_sums()).collect();
        let decoder = self.plan.decoder();
        Readback::record(&self.device, encoder, &parts, &self.staging, move |record| decoder.decode_record(record).0)
    }

    /// The sums of the last sampled step.
    fn metric_sums(&self) -> Option<(&Buffer, std::ops::Range<u64>)> {
        let sampler = self.plan.sampler.as_ref()?;
        self.resources.persistent.metric_table.as_ref().map(|table| (table, sampler.record_bytes()))
    }

    /// Requests the statistics of the last steps recorded before, oldest first: appends one copy to the encoder.
    /// [`OptimizerBuilder::history`](crate::OptimizerBuilder::history) sets how many, and which. There are fewer in the beginning, and one less for every
    /// encoder that was dropped. No step waits for it.
    ///
    /// # Errors
    /// [`Error::NoHistory`].
    pub fn history(&self, encoder: &mut CommandEncoder) -> Result<ReadbackHistory, Error> {
        let history = self.history.as_ref().ok_or(Error::NoHistory)?;
        Ok(history.read(&self.device, encoder, self.plan.decoder()))
    }

    /// The learning rate of the next recorded step.
    ///
    /// # Errors
    /// Those of [`Schedule::lr`](crate::Schedule::lr).
    pub fn lr(&self) -> Result<f64, Error> {
        self.host_state().plan.lr()
    }

    /// Replaces the schedule by one learning rate from the next recorded step on, as assigning a parameter group's `lr`
    /// in PyTorch. Groups scale it as before; groups with schedules keep them, and a cycled momentum keeps its last value.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] unless it is 0 or greater and finite in f32; nothing has changed then.
    pub fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        self.plan.set_lr(lr)
    }

    /// Divides all gradients by a scale from the next recorded step on: a value, or a buffer that is read when the step
    /// executes. Default 1. Later steps check for non-finite gradients (see [`NonFinite`](crate::NonFinite)).
    ///
    /// A value creates no wgpu object; neither does a buffer among those used last.
    ///
    /// # Errors
    /// [`Error::OwnGradScale`] beside a [`GradScaler`](crate::GradScaler);
    /// [`Error::Hyperparameter`] for a value that is not positive and normal, or has no normal inverse;
    /// [`Error::MissingUsage`], [`Error::GradScaleTooSmall`] for a buffer without `STORAGE` or below four bytes.
    pub fn set_grad_scale<'a>(&mut self, scale: impl Into<GradScale<'a>>) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        match scale.into() {
            GradScale::Value(value) => {
                self.plan.set_grad_scale(value)?;
                self.grad_scale = self.resources.unit_scale.clone();
            }
            GradScale::Buffer(buffer) => {
                gpu::check_usage("grad_scale", buffer, BufferUsages::STORAGE, "")?;
                if buffer.size() < 4 {
                    return Err(Error::GradScaleTooSmall { actual: buffer.size() });
                }
                self.plan.set_device_grad_scale()?;
                self.grad_scale = buffer.clone();
            }
        }
        Ok(())
    }

    /// The scale to multiply the loss by, an f32 that kernels bind as `STORAGE` or `UNIFORM`: each step updates it for the
    /// passes after it. `None` without a [`GradScaler`](crate::GradScaler). Read-only for the program.
    pub fn loss_scale(&self) -> Option<BufferSlice<'_>> {
        self.resources.persistent.loss_scale.as_ref().map(|buffer| buffer.slice(..16))
    }

    /// Allows steps again after [`NonFinite::Stop`](crate::NonFinite::Stop), from the next submission on.
    pub fn resume(&self) {
        let offset = std::mem::offset_of!(ControlBlock, stopped) as u64;
        self.queue.write_buffer(&self.resources.persistent.control, offset, bytemuck::bytes_of(&0u32));
    }

    /// The storage formats of parameters, gradients and states.
    pub fn formats(&self) -> Formats {
        self.plan.formats()
    }

    /// Names of the states, in the rule's order, then the one that completes the parameters.
    pub fn state_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.plan.states.iter().map(|state| &*state.name).collect();
        names.extend(self.plan.factors.as_ref().map_or(&[][..], |_| &NAMES));
        names
    }

    /// Returns a state by the rule's name for it (`exp_avg`, …), in slices in the order of the flat space. They have
    /// `COPY_SRC`, `COPY_DST` and `STORAGE` usage. Slices of
    /// [`OptimizerBuilder::state_buffers`](crate::OptimizerBuilder::state_buffers) without padding are split between tensors.
    ///
    /// A factored state ([`Rule::factored`](crate::Rule::factored)) holds the factors of each tensor that has them, in the
    /// layout's order; no slice if no tensor has.
    ///
    /// Writing states does not restore an optimizer: [`Optimizer::set_applied_steps`] sets step counter, bias corrections and
    /// schedule.
    pub fn state(&self, name: &str) -> Option<Vec<BufferSlice<'_>>> {
        let factors = self.plan.factors.as_ref().and_then(|factors| factors.bytes(name));
        if let (Some(table), Some(bytes)) = (&self.resources.persistent.factors, factors) {
            // wgpu has no empty slices.
            return Some(if bytes.is_empty() { Vec::new() } else { vec![table.slice(bytes)] });
        }
        let state = self.plan.states.iter().position(|state| state.name == name)?;
        Some(self.resources.persistent.states[state].iter().map(BufferRange::slice).collect())
    }
}

/// Moves the first match to the front, as the last used. Returns whether there is one.
fn move_to_front<T>(entries: &mut [T], matches: impl FnMut(&T) -> bool) -> bool {
    let found = entries.iter().position(matches);
    if let Some(found) = found {
        entries[..=found].rotate_right(1);
    }
    found.is_some()
}
