use wgpu::{BindGroup, BindGroupEntry, Buffer, BufferBinding, BufferUsages};

use super::buffer_slices::{FlatBuffer, Piece, check_usage};
use super::chunking::{self, Chunk, ChunkUniform, NormPlan, PlanLimits, ScratchCopy};
use super::factors;
use super::pipelines::{Kernel, Pipelines};
use super::shader::{Form, GRAD_STREAM, OBSERVED_BINDING, SEGMENTS_BINDING, STREAM_BINDING};
use crate::Error;
use crate::groups::GroupTable;
use crate::kernels::control::ControlBlock;
use crate::plan::Plan;
use crate::segments::Segments;

/// Elements a workgroup of `update` handles, and of `norm`.
const UPDATE_ELEMENTS: u64 = 1024;
const NORM_ELEMENTS: u64 = crate::tile::NORM_BLOCK as u64;
/// Bytes between the uniforms of two chunks: the largest offset alignment that WebGPU allows.
const CHUNK_STRIDE: u64 = 256;
/// Bytes of `Control`, the part of the control block that `update` reads.
const CONTROL_SIZE: u64 = std::mem::offset_of!(ControlBlock, first_nonfinite) as u64;

/// The optimizer's own buffers that every step binds.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) control: Buffer,
    /// What a bare step writes in place of `control`, which it reads.
    pub(crate) next: Buffer,
    pub(crate) groups: Buffer,
    pub(crate) partials: Buffer,
    pub(crate) powers: Buffer,
    /// The states, each in as many buffers as the limits ask for.
    pub(crate) states: Vec<Vec<Piece>>,
    /// The table of tensors, if the rule measures.
    pub(crate) segments: Option<Buffer>,
    /// The table of factors, if the rule is factored.
    pub(crate) factors: Option<Buffer>,
    /// The last norms, where gradients are clipped by a percentile of them.
    pub(crate) norms: Option<Buffer>,
    /// The table of observed sums, if there is a history of them.
    pub(crate) observed: Option<Buffer>,
}

impl Shared {
    /// The buffers that hold what one step leaves for the next.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Buffer> {
        let Self { control, next, groups: _, partials: _, powers: _, states, segments, factors, norms, observed } =
            self;
        let states = states.iter().flatten().map(|piece| &piece.buffer);
        [control, next].into_iter().chain(states).chain(segments).chain(factors).chain(norms).chain(observed)
    }
}

/// One dispatch, ready to be recorded.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) kernel: Kernel,
    pub(super) bind_group: BindGroup,
    pub(super) grid: [u32; 2],
}

impl Dispatch {
    pub(crate) fn record(&self, pipelines: &Pipelines, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(pipelines.get(self.kernel));
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
    }
}

/// What the update dispatches of some bindings do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A step without a look at all gradients first.
    BareStep,
    /// A step that `finish` decides on.
    Step,
    /// The same with a look at what it is about to do.
    ObservedStep,
    /// A further pass of the rule.
    Pass(&'static str),
}

impl Work {
    /// Whether `finish` decides on it.
    pub(crate) fn is_decided(self) -> bool {
        matches!(self, Self::Step | Self::ObservedStep)
    }

    /// Whether it counts as a step.
    pub(crate) fn is_step(self) -> bool {
        !matches!(self, Self::Pass(_))
    }
}

/// Everything a step over one set of parameter and gradient buffers binds.
#[derive(Debug)]
pub(crate) struct Bindings {
    params: Vec<Piece>,
    grads: Vec<Piece>,
    work: Work,
    pub(crate) updates: Vec<Dispatch>,
    /// The rule's factors, what it measures, and the adding up; then the same for what is observed.
    pub(crate) measures: Vec<Dispatch>,
    pub(crate) norms: Vec<Dispatch>,
    pub(crate) copies: Vec<ScratchCopy>,
}

impl Bindings {
    /// Checks the buffers, plans the chunks, and makes what they need.
    pub(crate) fn new(
        device: &wgpu::Device,
        pipelines: &mut Pipelines,
        shared: &Shared,
        plan: &Plan,
        (params, grads): (FlatBuffer<'_>, FlatBuffer<'_>),
        work: Work,
    ) -> Result<Self, Error> {
        let len = plan.len as u64;
        let params = params.pieces("params", len)?;
        let grads = grads.pieces("grads", len)?;
        check_aliases(&params, &grads, &shared.states)?;
        let limits = PlanLimits::new(&device.limits());
        let norm_plan = if work.is_decided() {
            let scratch = |size| {
                let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
                let label = Some("wgpu-optim cut norm blocks");
                device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
            };
            NormPlan::new(&grads, len, &limits, scratch)
        } else {
            NormPlan::default()
        };
        for copy in &norm_plan.copies {
            let reason = ", because the slices are not cut at multiples of 8,192 elements";
            check_usage("grads", &copy.source, BufferUsages::COPY_SRC, reason)?;
        }

        let mut streams = vec![&params[..], &grads[..]];
        streams.extend(shared.states.iter().map(|state| &state[..]));
        let measured = plan.segments.as_ref().filter(|_| work.is_decided());
        let observer = plan.observer.as_ref().filter(|_| work == Work::ObservedStep);
        let chunks = chunking::chunks(&streams, &limits, plan.segments.is_some() || observer.is_some());
        let uniforms: Vec<_> =
            chunks.iter().enumerate().map(|(i, chunk)| chunk.uniform(&plan.groups, i == 0, 0)).collect();
        let uniforms = uniform_buffer(device, &uniforms);
        let updates = chunks.iter().enumerate().map(|(i, chunk)| {
            let form = chunk.form(&plan.groups);
            let kernel = match work {
                Work::BareStep => Kernel::UpdateBare(form),
                Work::Step | Work::ObservedStep => Kernel::Update(form),
                Work::Pass(pass) => Kernel::Pass(pass, form),
            };
            pipelines.prepare(device, kernel);
            let mut entries = vec![
                chunk_entry::<ChunkUniform>(&uniforms, i),
                control_entry(shared),
                BindGroupEntry { binding: 2, resource: shared.groups.as_entire_binding() },
            ];
            if work == Work::BareStep {
                entries.push(BindGroupEntry { binding: 3, resource: shared.next.as_entire_binding() });
            }
            entries.extend(segments_entry(shared));
            entries.extend(factors::entry(shared));
            entries.extend(stream_entries(chunk, 0));
            let bind_group = bind_group(device, pipelines, kernel, &entries);
            Dispatch { kernel, bind_group, grid: limits.grid(chunk.len.div_ceil(UPDATE_ELEMENTS)) }
        });
        let updates = updates.collect();
        let mut measures = Vec::new();
        if let Some(factors) = plan.factors.as_ref().filter(|_| work.is_decided()) {
            measures = factors::dispatches(device, pipelines, shared, factors, &chunks, &limits);
        }
        let of_rule = measured.map(|segments| (segments, Kernel::Measure as fn(Form) -> Kernel, Kernel::Settle));
        let of_history = observer.map(|observer| (&observer.segments, Kernel::Observe as _, Kernel::Totals));
        for (segments, of_items, total) in of_rule.into_iter().chain(of_history) {
            let kernel = (segments, of_items);
            measures.extend(item_dispatches(device, pipelines, shared, plan, kernel, &chunks, &limits)?);
            measures.push(total_dispatch(device, pipelines, shared, total, (segments, &limits)));
        }
        let norms = norm_dispatches(device, pipelines, shared, &plan.groups, &norm_plan.chunks, &limits);
        Ok(Self { params, grads, work, updates, measures, norms, copies: norm_plan.copies })
    }

    /// Whether these bindings were made for the same bytes of the same buffers.
    pub(crate) fn are_for(&self, params: FlatBuffer<'_>, grads: FlatBuffer<'_>, len: u64, work: Work) -> bool {
        self.work == work && params.is(&self.params, len) && grads.is(&self.grads, len)
    }
}

fn norm_dispatches(
    device: &wgpu::Device,
    pipelines: &mut Pipelines,
    shared: &Shared,
    groups: &GroupTable,
    chunks: &[Chunk],
    limits: &PlanLimits,
) -> Vec<Dispatch> {
    let uniforms: Vec<_> = chunks.iter().map(|chunk| chunk.uniform(groups, false, GRAD_STREAM)).collect();
    let uniforms = uniform_buffer(device, &uniforms);
    let dispatch = |(i, chunk): (usize, &Chunk)| {
        let kernel = Kernel::Norm(chunk.form(groups));
        pipelines.prepare(device, kernel);
        let mut entries = vec![
            chunk_entry::<ChunkUniform>(&uniforms, i),
            BindGroupEntry { binding: 2, resource: shared.groups.as_entire_binding() },
            BindGroupEntry { binding: 3, resource: shared.partials.as_entire_binding() },
        ];
        entries.extend(stream_entries(chunk, GRAD_STREAM));
        let bind_group = bind_group(device, pipelines, kernel, &entries);
        Dispatch { kernel, bind_group, grid: limits.grid(chunk.len.div_ceil(NORM_ELEMENTS)) }
    };
    chunks.iter().enumerate().map(dispatch).collect()
}

/// A kernel over the items of `segments` in each chunk.
fn item_dispatches(
    device: &wgpu::Device,
    pipelines: &mut Pipelines,
    shared: &Shared,
    plan: &Plan,
    (segments, kernel): (&Segments, fn(Form) -> Kernel),
    chunks: &[Chunk],
    limits: &PlanLimits,
) -> Result<Vec<Dispatch>, Error> {
    let mut uniforms = Vec::new();
    let mut items = Vec::new();
    for chunk in chunks {
        let first = segments.item_at(chunk.start, plan.rule.name())?;
        let end = segments.item_at(chunk.start + chunk.len, plan.rule.name())?;
        let mut uniform = chunk.uniform(&plan.groups, false, 0);
        uniform.first_item = first as u32;
        uniforms.push(uniform);
        items.push((end - first) as u64);
    }
    let uniforms = uniform_buffer(device, &uniforms);
    let dispatch = |(i, (chunk, &items)): (usize, (&Chunk, &u64))| {
        // The kernel takes four elements as they lie in the flat space, wherever the chunk begins.
        let aligned = chunk.aligned && chunk.start.is_multiple_of(4);
        let kernel = kernel(Form { aligned, ..chunk.form(&plan.groups) });
        pipelines.prepare(device, kernel);
        let mut entries = vec![
            chunk_entry::<ChunkUniform>(&uniforms, i),
            control_entry(shared),
            BindGroupEntry { binding: 2, resource: shared.groups.as_entire_binding() },
        ];
        entries.extend(segments_entry(shared));
        entries.extend(factors::entry(shared));
        entries.extend(observed_entry(shared).filter(|_| matches!(kernel, Kernel::Observe(_))));
        entries.extend(stream_entries(chunk, 0));
        let bind_group = bind_group(device, pipelines, kernel, &entries);
        Dispatch { kernel, bind_group, grid: limits.grid(items) }
    };
    Ok(chunks.iter().zip(&items).enumerate().filter(|(_, (_, items))| **items > 0).map(dispatch).collect())
}

/// The kernel that adds up what has been summed over the items of `segments`.
fn total_dispatch(
    device: &wgpu::Device,
    pipelines: &mut Pipelines,
    shared: &Shared,
    kernel: Kernel,
    (segments, limits): (&Segments, &PlanLimits),
) -> Dispatch {
    pipelines.prepare(device, kernel);
    let table = if kernel == Kernel::Totals { observed_entry(shared) } else { segments_entry(shared) };
    let entries: Vec<_> = [control_entry(shared)].into_iter().chain(table).collect();
    let bind_group = bind_group(device, pipelines, kernel, &entries);
    Dispatch { kernel, bind_group, grid: limits.grid(segments.count() as u64) }
}

/// wgpu tracks hazards per whole buffer, so no buffer may be written in one stream and bound in another.
fn check_aliases(params: &[Piece], grads: &[Piece], states: &[Vec<Piece>]) -> Result<(), Error> {
    let buffers = |pieces: &mut dyn Iterator<Item = &Piece>| {
        let mut buffers: Vec<Buffer> = pieces.map(|piece| piece.buffer.clone()).collect();
        buffers.sort();
        buffers
    };
    let written = buffers(&mut params.iter());
    let own = buffers(&mut states.iter().flatten());
    let shared =
        |pieces: &[Piece], with: &[Buffer]| pieces.iter().any(|piece| with.binary_search(&piece.buffer).is_ok());
    for (pieces, with, first, second) in [
        (grads, &written, "params", "grads"),
        (params, &own, "params", "a state of the optimizer"),
        (grads, &own, "grads", "a state of the optimizer"),
    ] {
        if shared(pieces, with) {
            return Err(Error::AliasedBuffers { first, second });
        }
    }
    Ok(())
}

/// Uniforms of chunks, [`CHUNK_STRIDE`] bytes apart.
pub(super) fn uniform_buffer<T: bytemuck::Pod>(device: &wgpu::Device, uniforms: &[T]) -> Buffer {
    let mut bytes = vec![0; uniforms.len().max(1) * CHUNK_STRIDE as usize];
    for (slot, uniform) in bytes.chunks_exact_mut(CHUNK_STRIDE as usize).zip(uniforms) {
        slot[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(uniform));
    }
    init_buffer(device, "wgpu-optim chunks", BufferUsages::UNIFORM, &bytes)
}

/// A buffer that begins with `bytes`.
pub(crate) fn init_buffer(device: &wgpu::Device, label: &str, usage: BufferUsages, bytes: &[u8]) -> Buffer {
    use wgpu::util::{BufferInitDescriptor, DeviceExt};
    device.create_buffer_init(&BufferInitDescriptor { label: Some(label), contents: bytes, usage })
}

/// `size` bytes of a buffer from `offset` on, as a binding.
pub(crate) fn bound(buffer: &Buffer, offset: u64, size: u64) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(BufferBinding { buffer, offset, size: wgpu::BufferSize::new(size) })
}

pub(super) fn chunk_entry<T>(uniforms: &Buffer, chunk: usize) -> BindGroupEntry<'_> {
    let size = size_of::<T>() as u64;
    BindGroupEntry { binding: 0, resource: bound(uniforms, chunk as u64 * CHUNK_STRIDE, size) }
}

/// What `finish` has decided.
pub(super) fn control_entry(shared: &Shared) -> BindGroupEntry<'_> {
    BindGroupEntry { binding: 1, resource: bound(&shared.control, 0, CONTROL_SIZE) }
}

fn segments_entry(shared: &Shared) -> Option<BindGroupEntry<'_>> {
    let buffer = shared.segments.as_ref()?;
    Some(BindGroupEntry { binding: SEGMENTS_BINDING, resource: buffer.as_entire_binding() })
}

fn observed_entry(shared: &Shared) -> Option<BindGroupEntry<'_>> {
    let buffer = shared.observed.as_ref()?;
    Some(BindGroupEntry { binding: OBSERVED_BINDING, resource: buffer.as_entire_binding() })
}

fn stream_entries(chunk: &Chunk, first_stream: usize) -> impl Iterator<Item = BindGroupEntry<'_>> {
    chunk.streams.iter().enumerate().map(move |(i, stream)| BindGroupEntry {
        binding: STREAM_BINDING + (first_stream + i) as u32,
        resource: bound(&stream.buffer, stream.offset, stream.size),
    })
}

pub(super) fn bind_group(
    device: &wgpu::Device,
    pipelines: &Pipelines,
    kernel: Kernel,
    entries: &[BindGroupEntry<'_>],
) -> BindGroup {
    let layout = pipelines.layout(kernel);
    device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some("wgpu-optim chunk"), layout, entries })
}
