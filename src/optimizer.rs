mod passes;
mod snapshot;

use std::sync::Arc;

use wgpu::{Buffer, BufferSlice, BufferUsages};

use crate::builder::OptimizerBuilder;
use crate::factors::{Factors, NAMES};
use crate::gpu::{
    self, Bindings, FlatBuffer, Kernel, Piece, Pipelines, PlanLimits, ScratchCopy, Shared, SharedPipelines, Slots,
    Work, bound, check_limit, init_buffer, norm_blocks,
};
use crate::kernels::control::{BiasPowers, ControlBlock, NONE, SlotHead};
use crate::metrics::Reader;
use crate::metrics::{DeviceHistory, PendingHistory};
use crate::metrics::{PendingStats, StagingPool};
use crate::plan::{Plan, PlanSettings};
use crate::rule::{Rule, initial};
use crate::segments::Segments;
use crate::{Error, Layout};
pub use snapshot::Snapshot;

/// Sets of parameter and gradient buffers whose bindings are kept.
const KEPT_BINDINGS: usize = 3;

/// What gradients are divided by before anything else: the loss scale of mixed-precision training.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum GradScale<'a> {
    /// A positive value whose inverse is a normal f32.
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

/// The optimizer on a device: a rule, its states, and the step counter, all on the GPU.
///
/// [`Optimizer::step`] records into the encoder of the training program; it never submits, maps, polls or waits.
/// Several steps recorded into one submission do what they would do one by one.
#[derive(Debug)]
pub struct Optimizer {
    device: wgpu::Device,
    plan: Plan,
    pipelines: Pipelines,
    shared: Shared,
    slots: Slots,
    finish: wgpu::BindGroup,
    bindings: Vec<Bindings>,
    /// What `eval` keeps for `train`; empty before the first.
    training_params: Vec<Piece>,
    staging: StagingPool,
    history: Option<DeviceHistory>,
}

impl Optimizer {
    /// Starts an optimizer with a rule: a built-in one or anyone's own.
    pub fn builder(rule: impl Rule + 'static) -> OptimizerBuilder {
        OptimizerBuilder::new(Arc::new(rule))
    }

    pub(crate) fn new(pipelines: &SharedPipelines, settings: &PlanSettings, layout: &Layout) -> Result<Self, Error> {
        let device = &pipelines.device;
        let mut plan = Plan::new(settings, layout)?;
        let limits = PlanLimits::new(&device.limits());
        check_limit("max_storage_buffer_binding_size", limits.least_binding(), limits.binding)?;
        check_limit("max_buffer_size", limits.least_binding(), device.limits().max_buffer_size)?;
        let clip = plan.clip();
        let pipelines = Pipelines::new(pipelines, plan.rule.clone(), clip, plan.observer.is_some())?;

        let powers = BiasPowers::new(&plan.rule.bias_corrected());
        let block = ControlBlock::new(&powers, initial(&plan.rule.scalars()), &clip);
        let block = bytemuck::bytes_of(&block);
        let len = plan.len as u64;
        // An empty flat space has one partial, which must say that nothing is wrong.
        let partials = [0, 0, 0, NONE].repeat(norm_blocks(len) as usize);
        let groups = plan.groups.words_within(limits.binding.min(device.limits().max_buffer_size));
        let segments = plan.segments.as_ref().map(Segments::words);
        let factors = plan.factors.as_ref().map(Factors::words);
        let observed = plan.observer.as_ref().map(|observer| observer.words());
        let lengths = [&segments, &factors, &observed].map(|words| words.as_ref().map_or(0, Vec::len));
        let ring_size = settings.history.as_ref().map(|history| u64::from(history.steps) * plan.reader().record_size());
        if let Some(size) = ring_size {
            check_limit("max_buffer_size", size, device.limits().max_buffer_size)?;
        }
        for words in [partials.len(), groups.len()].into_iter().chain(lengths) {
            check_limit("max_storage_buffer_binding_size", words as u64 * 4, limits.binding)?;
            check_limit("max_buffer_size", words as u64 * 4, device.limits().max_buffer_size)?;
        }
        let words =
            |label, words: &[u32]| init_buffer(device, label, BufferUsages::STORAGE, bytemuck::cast_slice(words));
        let control_usage =
            BufferUsages::UNIFORM | BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let next_usage = control_usage - BufferUsages::UNIFORM;
        let table = |label: &str, words: Vec<u32>| {
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            init_buffer(device, label, usage, bytemuck::cast_slice(&words))
        };
        let states = plan
            .rule
            .states()
            .iter()
            .map(|name| state_pieces(device, name, plan.rule.initial_state(name), len))
            .collect();
        let shared = Shared {
            control: init_buffer(device, "wgpu-optim control", control_usage, block),
            next: init_buffer(device, "wgpu-optim next control", next_usage, block),
            groups: words("wgpu-optim groups", &groups),
            partials: words("wgpu-optim norm partials", &partials),
            powers: init_buffer(device, "wgpu-optim powers", BufferUsages::UNIFORM, powers.bytes()),
            states,
            segments: segments.map(|words| table("wgpu-optim tensors", words)),
            factors: factors.map(|words| table("wgpu-optim factors", words)),
            norms: clip.window.map(|window| table("wgpu-optim norms", vec![0; 1 + window as usize])),
            observed: observed.map(|words| table("wgpu-optim observed", words)),
        };
        let slots = Slots::new(&*plan.rule, plan.groups.lr_fours(), plan.cycles());
        let uniform = slots.size().max(size_of::<BiasPowers>() as u64);
        check_limit("max_uniform_buffer_binding_size", uniform, device.limits().max_uniform_buffer_binding_size)?;
        check_limit("max_buffer_size", slots.buffer_size(), device.limits().max_buffer_size)?;
        let one = init_buffer(device, "wgpu-optim unit scale", BufferUsages::STORAGE, bytemuck::bytes_of(&1f32));
        Ok(Self {
            finish: finish_bind_group(device, &pipelines, &shared, &one),
            slots,
            device: device.clone(),
            plan,
            pipelines,
            shared,
            bindings: Vec::new(),
            training_params: Vec::new(),
            staging: StagingPool::default(),
            history: ring_size.map(|size| DeviceHistory::new(device, size)),
        })
    }

    /// Records one optimizer step: `params` is updated from `grads`, both f32 over the layout's flat space, each
    /// one buffer, a slice, or a list of slices ([`FlatBuffer`]). They need `STORAGE` usage; gradients in slices
    /// that are not cut at multiples of 8,192 elements also need `COPY_SRC` where the norm is measured.
    ///
    /// `queue` is the one the encoder will be submitted to. A bare step (no clipping but by value, no gradient scale,
    /// [`NonFinite::Propagate`](crate::NonFinite::Propagate)) is one dispatch per chunk; otherwise the norm takes
    /// one more per chunk, and the decision one; so it does for rules with bias corrections under a schedule that cycles the
    /// first beta. A rule that measures ([`Rule::measures`]) always takes those, one more
    /// per chunk for its sums, and one to add them up; one that is factored ([`Rule::factored`]) one more per chunk, and two.
    /// Chunks are as large as the device's bindings.
    ///
    /// Bind groups of the three sets of buffers used last are kept, and with them the buffers; of six where a history takes
    /// norms ([`HistoryOptions::with_norms_every`](crate::metrics::HistoryOptions::with_norms_every), which also says what
    /// such a step takes).
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::MissingUsage`], [`Error::MisalignedSlice`],
    /// [`Error::OverlappingSlices`], [`Error::AliasedBuffers`], [`Error::CutTensor`], [`Error::EvaluationMode`], and those of
    /// [`Schedule::lr`](crate::Schedule::lr); nothing was recorded or counted then.
    pub fn step<'a>(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        queue: &wgpu::Queue,
        params: impl Into<FlatBuffer<'a>>,
        grads: impl Into<FlatBuffer<'a>>,
    ) -> Result<(), Error> {
        self.plan.check_training("step")?;
        let work = match (self.plan.observes(), self.plan.is_bare()) {
            (true, _) => Work::ObservedStep,
            (false, true) => Work::BareStep,
            (false, false) => Work::Step,
        };
        self.bind(params.into(), grads.into(), work)?;
        let head = self.plan.next_slot()?;
        self.record(encoder, queue, head, work);
        Ok(())
    }

    /// Records one of the rule's further passes ([`Rule::passes`]) over all elements: `rule`'s form, with `input` where
    /// a step has gradients, taken as it is. It counts no step, clips and skips nothing.
    ///
    /// # Errors
    /// [`Error::UnknownPass`], and those of [`Optimizer::step`]; nothing was recorded then.
    pub fn run_pass<'a>(
        &mut self,
        pass: &str,
        encoder: &mut wgpu::CommandEncoder,
        queue: &wgpu::Queue,
        params: impl Into<FlatBuffer<'a>>,
        input: impl Into<FlatBuffer<'a>>,
    ) -> Result<(), Error> {
        let work = Work::Pass(self.plan.pass(pass)?);
        self.bind(params.into(), input.into(), work)?;
        let head = self.plan.pass_slot()?;
        self.record(encoder, queue, head, work);
        Ok(())
    }

    /// Records what the first of the kept bindings were made for.
    fn record(&mut self, encoder: &mut wgpu::CommandEncoder, queue: &wgpu::Queue, head: SlotHead, work: Work) {
        let layout = self.pipelines.slot_layout();
        if self.plan.cycles() {
            self.slots.set_rule(&*self.plan.rule);
        }
        let scalars = (head, self.plan.groups.lrs());
        let (slot, offsets) = self.slots.write(&self.device, queue, encoder, layout, &self.shared.powers, scalars);
        let bindings = &self.bindings[0];
        for ScratchCopy { source, source_offset, target, target_offset, size } in &bindings.copies {
            encoder.copy_buffer_to_buffer(source, *source_offset, target, *target_offset, *size);
        }
        let descriptor = wgpu::ComputePassDescriptor { label: Some("wgpu-optim step"), timestamp_writes: None };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        for norm in &bindings.norms {
            norm.record(&self.pipelines, &mut pass);
        }
        pass.set_bind_group(1, slot, &offsets);
        if work.is_decided() {
            pass.set_pipeline(self.pipelines.get(Kernel::Finish));
            pass.set_bind_group(0, &self.finish, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
        for dispatch in bindings.measures.iter().chain(&bindings.updates) {
            dispatch.record(&self.pipelines, &mut pass);
        }
        drop(pass);
        if work == Work::BareStep {
            let size = size_of::<ControlBlock>() as u64;
            encoder.copy_buffer_to_buffer(&self.shared.next, 0, &self.shared.control, 0, size);
        }
        if let Some(history) = self.history.as_ref().filter(|_| work.is_step()) {
            let observed = self.observed().filter(|_| work == Work::ObservedStep);
            let size = self.plan.reader().record_size();
            history.keep(encoder, size, self.plan.recorded, &self.shared.control, observed);
        }
    }

    /// Makes the bindings for these buffers the first of those kept.
    fn bind(&mut self, params: FlatBuffer<'_>, grads: FlatBuffer<'_>, work: Work) -> Result<(), Error> {
        let len = self.plan.len as u64;
        if let Some(kept) = self.bindings.iter().position(|kept| kept.are_for(params, grads, len, work)) {
            self.bindings[..=kept].rotate_right(1);
            return Ok(());
        }
        if work.is_decided() {
            self.pipelines.prepare(&self.device, Kernel::Finish);
        }
        let made = Bindings::new(&self.device, &mut self.pipelines, &self.shared, &self.plan, (params, grads), work)?;
        let kinds = if self.plan.observer.is_some() { 2 } else { 1 };
        self.bindings.truncate(KEPT_BINDINGS * kinds - 1);
        self.bindings.insert(0, made);
        Ok(())
    }

    /// Asks for the statistics of the last step recorded before: appends a copy of 112 bytes to the encoder, and one of 48
    /// or more where the optimizer takes norms. The step itself is not delayed, now or later.
    pub fn stats(&self, encoder: &mut wgpu::CommandEncoder) -> PendingStats {
        let control = (&self.shared.control, 0..size_of::<ControlBlock>() as u64);
        let parts: Vec<_> = [control].into_iter().chain(self.observed()).collect();
        let read = |record: &[u8], reader: &Reader| reader.read(record).0;
        PendingStats::record(&self.device, encoder, &parts, &self.staging, read, self.plan.reader())
    }

    /// Where the totals of the last observed step are.
    fn observed(&self) -> Option<(&Buffer, std::ops::Range<u64>)> {
        let observer = self.plan.observer.as_ref()?;
        self.shared.observed.as_ref().map(|observed| (observed, observer.record_bytes()))
    }

    /// Asks for the statistics of the last steps recorded before, oldest first: appends one copy to the encoder. How many
    /// there are, and what of them, is told to [`OptimizerBuilder::history`]; fewer in the beginning, and one less for every
    /// encoder that was dropped. The steps are not delayed, now or later.
    ///
    /// # Errors
    /// [`Error::NoHistory`] for an optimizer built without.
    pub fn history(&self, encoder: &mut wgpu::CommandEncoder) -> Result<PendingHistory, Error> {
        let history = self.history.as_ref().ok_or(Error::NoHistory)?;
        Ok(history.read(&self.device, encoder, self.plan.reader()))
    }

    /// The learning rate that the next recorded step will use.
    ///
    /// # Errors
    /// Those of [`Schedule::lr`](crate::Schedule::lr).
    pub fn lr(&self) -> Result<f64, Error> {
        self.plan.lr()
    }

    /// Sets the learning rate from the next recorded step on, in place of the schedule, as assigning a parameter group's `lr`
    /// does in PyTorch. Groups scale it as before; those with schedules keep them, and a momentum that was cycled stays.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] unless it is 0 or greater and finite in f32; nothing has changed then.
    pub fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        self.plan.set_lr(lr)
    }

    /// Divides all gradients by a scale from the next recorded step on: a value, or a buffer that is read when the
    /// step executes. Default 1. Once set, steps check for non-finite gradients (see [`NonFinite`](crate::NonFinite)).
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for a value that is not positive or has no normal inverse;
    /// [`Error::MissingUsage`], [`Error::LengthMismatch`] for a buffer without `STORAGE` or below four bytes.
    pub fn set_grad_scale<'a>(&mut self, scale: impl Into<GradScale<'a>>) -> Result<(), Error> {
        let one;
        let buffer = match scale.into() {
            GradScale::Value(value) => {
                self.plan.set_grad_scale(value)?;
                one = init_buffer(
                    &self.device,
                    "wgpu-optim unit scale",
                    BufferUsages::STORAGE,
                    bytemuck::bytes_of(&1f32),
                );
                &one
            }
            GradScale::Buffer(buffer) => {
                gpu::check_usage("grad_scale", buffer, BufferUsages::STORAGE, "")?;
                if buffer.size() < 4 {
                    return Err(Error::LengthMismatch { what: "grad_scale", expected: 1, actual: 0 });
                }
                self.plan.set_device_grad_scale();
                buffer
            }
        };
        self.finish = finish_bind_group(&self.device, &self.pipelines, &self.shared, buffer);
        Ok(())
    }

    /// Lets steps through again after [`NonFinite::Stop`](crate::NonFinite::Stop), from the next submission on.
    pub fn resume(&self, queue: &wgpu::Queue) {
        let offset = std::mem::offset_of!(ControlBlock, stopped) as u64;
        queue.write_buffer(&self.shared.control, offset, bytemuck::bytes_of(&0u32));
    }

    /// Names of the states, in the rule's order.
    pub fn state_names(&self) -> Vec<&str> {
        let mut names = self.plan.rule.states();
        names.extend(self.plan.factors.as_ref().map_or(&[][..], |_| &NAMES));
        names
    }

    /// One state over the flat space, by the rule's name for it (`exp_avg`, …): f32 in one or more slices that
    /// follow each other, with `COPY_SRC`, `COPY_DST` and `STORAGE` usage. One that is kept as factors
    /// ([`Rule::factored`]): of each tensor that has it, in the order of the layout; no slice where no tensor has it.
    pub fn state(&self, name: &str) -> Option<Vec<BufferSlice<'_>>> {
        let factors = self.plan.factors.as_ref().and_then(|factors| factors.bytes(name));
        if let (Some(table), Some(bytes)) = (&self.shared.factors, factors) {
            // wgpu knows no empty slices.
            return Some(if bytes.is_empty() { Vec::new() } else { vec![table.slice(bytes)] });
        }
        let state = self.plan.rule.states().iter().position(|&state| state == name)?;
        Some(self.shared.states[state].iter().map(Piece::slice).collect())
    }
}

/// Bytes behind a state, where there is room: streams of 2^n bytes that follow each other in memory would all lie at the same
/// places of a cache.
const APART: u64 = 1024;

/// Buffers for one state, of a multiple of 16 bytes each.
fn state_pieces(device: &wgpu::Device, name: &str, initial: f32, len: u64) -> Vec<Piece> {
    let max_buffer_size = device.limits().max_buffer_size / 16 * 16;
    let most = max_buffer_size / 4 / crate::tile::NORM_BLOCK as u64 * crate::tile::NORM_BLOCK as u64;
    let piece = |start: u64| {
        let len = most.min(len - start);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(&format!("wgpu-optim {name}")),
            size: ((len * 4).next_multiple_of(16) + APART).min(max_buffer_size),
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: initial != 0.0,
        });
        if initial != 0.0 {
            fill(&buffer, initial);
        }
        Piece { buffer, offset: 0, start, len }
    };
    (0..len.div_ceil(most)).map(|i| piece(i * most)).collect()
}

/// Writes `value` over a buffer that is mapped at creation, and unmaps it.
fn fill(buffer: &Buffer, value: f32) {
    let block = [value; 1024];
    if let Ok(mut view) = buffer.get_mapped_range_mut(..) {
        let len = view.len();
        for start in (0..len).step_by(size_of_val(&block)) {
            let end = len.min(start + size_of_val(&block));
            view.slice(start..end).copy_from_slice(&bytemuck::cast_slice(&block)[..end - start]);
        }
    }
    buffer.unmap();
}

fn finish_bind_group(device: &wgpu::Device, pipelines: &Pipelines, shared: &Shared, scale: &Buffer) -> wgpu::BindGroup {
    let mut entries = vec![
        wgpu::BindGroupEntry { binding: 0, resource: shared.control.as_entire_binding() },
        wgpu::BindGroupEntry { binding: 1, resource: shared.partials.as_entire_binding() },
        wgpu::BindGroupEntry { binding: 2, resource: bound(scale, 0, 4) },
        wgpu::BindGroupEntry { binding: 3, resource: shared.next.as_entire_binding() },
    ];
    let norms = shared.norms.iter();
    entries.extend(norms.map(|norms| wgpu::BindGroupEntry { binding: 4, resource: norms.as_entire_binding() }));
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("wgpu-optim finish"),
        layout: pipelines.layout(Kernel::Finish),
        entries: &entries,
    })
}
