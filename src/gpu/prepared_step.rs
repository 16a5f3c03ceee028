//! The dispatches of a step over one set of buffers: planned, checked and bound once, then recorded as often as needed.

use std::borrow::Cow;
use std::sync::Arc;

use wgpu::{BindGroup, Buffer, BufferUsages, ComputePipeline};

use super::buffer_slices::{BufferRange, BufferSlices, FlatSpace, SliceKey, check_usage, cut_word, join, runs};
use super::chunking::{self, Chunk, ChunkLimits, ChunkUniform, NormChunks, ScratchCopy, UPDATE_LEN};
use super::kernel::Kernel;
use super::limits::check_limit;
use super::pipelines::{Pipelines, WORKGROUP_SIZE};
use super::resources::{Resources, buffer_binding, init_buffer};
use super::shader::{GradBinding, GroupLookup, Variant, bound_streams};
use crate::Error;
use crate::plan::{Pass, StepKind, StepPlan};
use crate::segments::Segments;
use crate::states::CodedState;
use crate::tile::TILE_LEN;

/// Bytes between the uniforms of two chunks: the largest offset alignment that WebGPU allows.
pub(super) const CHUNK_STRIDE: u64 = 256;
/// Tensors that a workgroup of `tensor_steps` counts.
const TENSORS_PER_WORKGROUP: u64 = 64;
/// Number of the gradients among the streams.
const GRAD_STREAM: usize = 1;

/// One dispatch.
#[derive(Debug, Clone)]
pub(crate) struct Dispatch {
    pub(crate) pass: Pass,
    pub(crate) pipeline: ComputePipeline,
    /// Bind group 0; `None` for `decide`, whose group depends on the gradient scale.
    pub(crate) bind_group: Option<BindGroup>,
    pub(crate) reads_uniforms: bool,
    pub(crate) grid: [u32; 2],
    /// Binds the dispatch anew, if it binds gradients.
    binder: Option<Binder>,
}

/// The parts of a bind group.
#[derive(Debug, Clone)]
struct Binder {
    pass: Pass,
    kernel: Arc<Kernel>,
    chunk: Chunk,
    /// Buffer and offset of the chunk's uniform.
    uniform: (Buffer, u64),
}

/// A step of one kind over one set of parameter and gradient buffers.
#[derive(Debug)]
pub(crate) struct PreparedStep {
    pub(crate) kind: StepKind,
    params: Vec<SliceKey<Buffer>>,
    grads: Vec<SliceKey<Buffer>>,
    pub(crate) copies: Vec<ScratchCopy>,
    /// In the order of the passes.
    pub(crate) dispatches: Vec<Dispatch>,
}

/// The parts of an optimizer that a prepared step is built from.
pub(crate) struct StepContext<'a> {
    pub(crate) device: &'a wgpu::Device,
    pub(crate) pipelines: &'a mut Pipelines,
    pub(crate) resources: &'a Resources,
    pub(crate) plan: &'a StepPlan,
    pub(crate) space: &'a FlatSpace,
    /// The tensors with a gradient, where it may be missing, and their count.
    pub(crate) present: Option<(Buffer, u64)>,
}

impl PreparedStep {
    /// Checks the buffers, cuts the chunks, and binds them for every pass.
    pub(crate) fn new(
        mut context: StepContext<'_>,
        params: BufferSlices<'_>,
        grads: BufferSlices<'_>,
        kind: StepKind,
    ) -> Result<Self, Error> {
        let StepContext { device, resources, plan, space, .. } = context;
        let keys = [key(params), key(grads)];
        let dtype = plan.input_dtype(kind);
        let param_dtype = plan.param_dtype(kind);
        let ranges = params.ranges("params", param_dtype, space)?;
        let ranges = (ranges, grads.disjoint_ranges((params, param_dtype), dtype, space)?);
        let missing = grads.missing(space);
        missing.iter().try_for_each(|&tensor| plan.check_missing(&plan.layout.tensors()[tensor]))?;
        let (mut params, mut grads) = ranges;
        resources.check_apart(&params, "params")?;
        resources.check_apart(&grads, "grads")?;
        let share = if kind.is_of_share() { plan.share.start as u64..plan.share.end as u64 } else { 0..space.len };
        for ranges in [&mut params, &mut grads] {
            *ranges = ranges.iter().filter_map(|range| range.within(&share)).collect();
        }
        let states = &resources.persistent.states[plan.bound_states(kind)];
        let mut states: Vec<Cow<'_, [BufferRange]>> = states.iter().map(Into::into).collect();
        if kind.has_states() {
            for coded in &plan.coded {
                states[coded.codes] = with_small(plan, coded, &resources.persistent.states).into();
            }
        }
        let lists = [&params[..]].into_iter().chain(states.iter().map(|ranges| &**ranges));
        let mut lists: Vec<_> = lists.collect();
        let others = lists.len();
        // Nothing is joined over a missing tensor.
        lists.extend(runs(&grads, &missing, space));
        let mut joined = join(&lists);
        let grads = joined.split_off(others).concat();
        joined.insert(GRAD_STREAM, grads);
        let streams: Vec<&[BufferRange]> = joined.iter().map(|ranges| &ranges[..]).collect();
        let grads = streams[GRAD_STREAM];
        let limits = ChunkLimits::new(&device.limits());
        let norm = if kind.sums_tiles() {
            let scratch = |size| {
                let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
                let label = Some("wgpu-optim cut tiles");
                device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
            };
            let is_scaled = kind == StepKind::Perturb && plan.scales_by_params();
            let streams = if is_scaled { (0, streams.clone()) } else { (GRAD_STREAM, vec![grads]) };
            NormChunks::new(streams, share, &limits, scratch)?
        } else {
            NormChunks::default()
        };
        for copy in &norm.copies {
            let reason = ", because slices, with adaptive SAM also those of parameters, are not cut at multiples of 8,192 elements";
            check_usage("grads", &copy.source, BufferUsages::COPY_SRC, reason)?;
        }
        let has_codes = !plan.coded.is_empty() && kind.has_states();
        let whole_parts = (plan.segments.is_some() && kind.has_states()) || kind == StepKind::Sampled || has_codes;
        let mut chunks = chunking::chunks(&streams, &limits, whole_parts);
        check_pairs(&chunks)?;
        if has_codes {
            for chunk in &mut chunks {
                chunk.f32_moments = plan.f32_parts.contains(chunk.start as usize);
            }
            check_blocks(plan, &chunks)?;
        }
        if plan.settings.misses_gradients && kind.has_states() {
            check_quads(&chunks)?;
            context.present = Some(present_tensors(device, space, &missing));
        }
        for chunk in chunks.iter().filter(|chunk| chunk.grads == GradBinding::WithParams) {
            check_limit("max_storage_buffer_binding_size", chunk.stream(GRAD_STREAM).size, limits.binding)?;
        }
        let mut dispatches = Vec::new();
        for pass in plan.passes(kind) {
            let chunks = if pass.sums_tiles() { &norm.chunks } else { &chunks };
            let present = context.present.as_ref().map_or(0, |(_, count)| *count);
            let mut work = work_of(pass, plan, chunks, present, &limits)?;
            // Browsers warn of dispatches without workgroups.
            work.retain(|work| work.grid.iter().all(|&workgroups| workgroups > 0));
            let uniforms: Vec<_> = work.iter().map(Work::uniform).collect();
            let uniforms = chunk_uniforms(device, &uniforms)?;
            for (i, work) in work.iter().enumerate() {
                dispatches.push(context.dispatch(pass, work, (&uniforms, i as u64 * CHUNK_STRIDE))?);
            }
        }
        let [params, grads] = keys;
        Ok(Self { kind, params, grads, copies: norm.copies, dispatches })
    }

    /// The same step over gradients in other buffers, at the same places in them: binds anew, and plans nothing. `None` for
    /// gradients of another shape.
    pub(crate) fn moved(
        &self,
        context: &StepContext<'_>,
        params: BufferSlices<'_>,
        grads: BufferSlices<'_>,
        kind: StepKind,
    ) -> Option<Self> {
        if self.kind != kind || !is_same(&self.params, params) {
            return None;
        }
        let moves = self.moves(grads, context.resources)?;
        let moved_to = |buffer: &Buffer| {
            let found = moves.binary_search_by_key(&buffer, |(old, _)| old).ok()?;
            Some(moves[found].1).filter(|new| *new != buffer)
        };
        let moved = |dispatch: &Dispatch| {
            let mut dispatch = dispatch.clone();
            if let Some(Binder { pass, kernel, chunk, uniform: (uniforms, offset) }) = &mut dispatch.binder {
                let bound = chunk.stream_mut(GRAD_STREAM);
                if let Some((bound, new)) = bound.and_then(|bound| moved_to(&bound.buffer).map(|new| (bound, new))) {
                    bound.buffer = new.clone();
                    dispatch.bind_group = Some(context.bind(*pass, kernel, Some(chunk), (uniforms, *offset)));
                }
            }
            dispatch
        };
        let copies = self.copies.iter().map(|copy| {
            let source = moved_to(&copy.source).unwrap_or(&copy.source).clone();
            ScratchCopy { source, ..copy.clone() }
        });
        Some(Self {
            kind,
            params: self.params.clone(),
            grads: key(grads),
            copies: copies.collect(),
            dispatches: self.dispatches.iter().map(moved).collect(),
        })
    }

    /// The new buffer for each buffer of the gradients, in the order of the latter, if chunks and checks are the same for both.
    fn moves<'a>(&'a self, grads: BufferSlices<'a>, resources: &Resources) -> Option<Vec<(&'a Buffer, &'a Buffer)>> {
        let mut moves = Vec::with_capacity(self.grads.len());
        let mut given = grads.key();
        for known in &self.grads {
            let ((buffer, at, size), (new, new_at, new_size)) = match (known, given.next()?) {
                (None, None) => continue,
                (Some(known), Some(new)) => (known, new),
                _ => return None,
            };
            if (new_at, new_size) != (*at, *size) {
                return None;
            }
            let has_usage = (buffer.usage() - new.usage()).is_empty();
            if new.size() != buffer.size() || !has_usage {
                return None;
            }
            moves.push((buffer, new));
        }
        moves.sort();
        moves.dedup();
        let mut new: Vec<&Buffer> = moves.iter().map(|(_, new)| *new).collect();
        new.sort();
        let is_one_to_one =
            moves.windows(2).all(|pair| pair[0].0 != pair[1].0) && new.windows(2).all(|pair| pair[0] != pair[1]);
        let is_target = |buffer: &Buffer| new.binary_search(&buffer).is_ok();
        // A buffer of the parameters stays where it is: its chunks bind both.
        let stays = |param: &Buffer| {
            let old = moves.binary_search_by_key(&param, |(old, _)| old).ok();
            old.map(|at| moves[at].1) == new.binary_search(&param).ok().map(|at| new[at])
        };
        let is_apart =
            !resources.persistent.iter().any(is_target) && self.params.iter().flatten().all(|(param, ..)| stays(param));
        (given.next().is_none() && is_one_to_one && is_apart).then_some(moves)
    }

    /// Whether the step was prepared for the same bytes of the same buffers.
    pub(crate) fn is_for(&self, params: BufferSlices<'_>, grads: BufferSlices<'_>, kind: StepKind) -> bool {
        self.kind == kind && is_same(&self.params, params) && is_same(&self.grads, grads)
    }
}

pub(crate) fn key(slices: BufferSlices<'_>) -> Vec<SliceKey<Buffer>> {
    slices.key().map(|slice| slice.map(|(buffer, at, size)| (buffer.clone(), at, size))).collect()
}

pub(crate) fn is_same(known: &[SliceKey<Buffer>], given: BufferSlices<'_>) -> bool {
    given.key().eq(known.iter().map(|slice| slice.as_ref().map(|(buffer, at, size)| (buffer, *at, *size))))
}

/// Refuses chunks whose quads may hold elements of two tensors: these may have other steps.
fn check_quads(chunks: &[Chunk]) -> Result<(), Error> {
    match chunks.iter().find(|chunk| !chunk.start.is_multiple_of(4)) {
        None => Ok(()),
        Some(chunk) => Err(Error::Unsupported {
            what: format!("a slice that begins at element {}", chunk.start),
            with: "`missing_gradients`, whose kernels load four elements of one tensor".to_owned(),
            remedy: "cut slices between tensors, or at multiples of 4 elements",
        }),
    }
}

/// The ranges of an 8-bit state: codes, and the f32 of small tensors in their place.
fn with_small(plan: &StepPlan, coded: &CodedState, states: &[Vec<BufferRange>]) -> Vec<BufferRange> {
    let Some(small) = coded.small else { return states[coded.codes].clone() };
    let mut ranges = states[small].clone();
    for range in &states[coded.codes] {
        let elements = range.start as usize..range.end() as usize;
        let parts = plan.f32_parts.cut(elements).filter(|part| !plan.f32_parts.contains(part.start));
        ranges.extend(parts.map(|part| {
            let (start, len) = (part.start as u64, part.len() as u64);
            BufferRange { offset: range.offset_of(start), start, len, ..range.clone() }
        }));
    }
    ranges.sort_by_key(|range| range.start);
    ranges
}

/// Refuses chunks that begin within a block of 8-bit states.
fn check_blocks(plan: &StepPlan, chunks: &[Chunk]) -> Result<(), Error> {
    let len = plan.coded.iter().map(|coded| coded.map.block_len() as u64).max().unwrap_or(1);
    match chunks.iter().find(|chunk| !chunk.f32_moments && !chunk.start.is_multiple_of(len)) {
        None => Ok(()),
        Some(chunk) => Err(Error::Unsupported {
            what: format!("a slice that begins at element {}", chunk.start),
            with: format!("8-bit states in blocks of {len}"),
            remedy: "cut slices between tensors, or at multiples of 256 elements",
        }),
    }
}

/// Refuses chunks whose first 16-bit number is the second of a word, where kernels write it: two lanes would write the word.
fn check_pairs(chunks: &[Chunk]) -> Result<(), Error> {
    let cut = chunks.iter().find(|chunk| chunk.begins_within_word);
    cut.map_or(Ok(()), |chunk| Err(cut_word("parameters or states", chunk.start)))
}

/// The tensors with a gradient: counts of missing and of present ones, then the numbers of the latter.
fn present_tensors(device: &wgpu::Device, space: &FlatSpace, missing: &[usize]) -> (Buffer, u64) {
    let is_present = |&tensor: &usize| missing.binary_search(&tensor).is_err();
    let present: Vec<u32> = (0..space.tensors.len()).filter(is_present).map(|tensor| tensor as u32).collect();
    let words = [&[missing.len() as u32, present.len() as u32], &present[..]].concat();
    (init_buffer(device, "wgpu-optim present tensors", BufferUsages::STORAGE, &words), present.len() as u64)
}

/// The work of one dispatch: a chunk, if the pass runs over chunks, and the grid.
struct Work<'a> {
    chunk: Option<(&'a Chunk, ChunkUniform)>,
    variant: Variant,
    grid: [u32; 2],
}

impl Work<'_> {
    fn uniform(&self) -> ChunkUniform {
        self.chunk.as_ref().map(|(_, uniform)| *uniform).unwrap_or_default()
    }
}

/// The dispatches of a pass.
fn work_of<'a>(
    pass: Pass,
    plan: &StepPlan,
    chunks: &'a [Chunk],
    present: u64,
    limits: &ChunkLimits,
) -> Result<Vec<Work<'a>>, Error> {
    let lanes = u64::from(WORKGROUP_SIZE);
    let once = |grid| vec![Work { chunk: None, variant: Variant::FIXED, grid }];
    let over_chunks = |workgroups: &dyn Fn(&Chunk) -> u64| {
        let work = |(i, chunk): (usize, &'a Chunk)| {
            let seed = plan.settings.precision.rounding.seed().unwrap_or_default();
            let uniform = ChunkUniform { first: (i == 0).into(), seed, ..chunk.uniform(&plan.groups) };
            let variant = chunk.variant(&plan.groups);
            Ok(Work { chunk: Some((chunk, uniform)), variant, grid: limits.grid(workgroups(chunk))? })
        };
        chunks.iter().enumerate().map(work).collect()
    };
    let sampler = plan.sampler.as_ref().map(|sampler| &sampler.segments);
    let segments =
        if matches!(pass, Pass::MetricsReduce | Pass::MetricsTotal) { sampler } else { plan.segments.as_ref() };
    let factors = plan.factors.as_ref();
    match pass {
        Pass::GlobalNorm | Pass::SamNorm => over_chunks(&|chunk| chunk.len.div_ceil(TILE_LEN as u64)),
        Pass::Decide | Pass::SamFactors => Ok(once([1, 1])),
        Pass::RowSteps => {
            let rows = plan.groups.rows().map_or(0, |rows| u64::from(rows.rows()));
            Ok(once(limits.capped_grid(rows.div_ceil(lanes))))
        }
        Pass::TensorSteps => Ok(once(limits.grid(present.div_ceil(TENSORS_PER_WORKGROUP).max(1))?)),
        Pass::FactorPartials => Ok(chunks.iter().map(|chunk| partials_work(plan, chunk, limits)).collect()),
        Pass::Project => {
            let mut work = Vec::new();
            for chunk in chunks {
                work.extend(projection_work(plan, chunk, limits)?);
            }
            Ok(work)
        }
        Pass::FactorUpdate => {
            let lines = factors.map_or(0, |factors| factors.values() as u64);
            Ok(once(limits.capped_grid(lines.div_ceil(lanes))))
        }
        Pass::FactorRowMean => Ok(once(limits.grid(factors.map_or(0, |factors| factors.matrices as u64))?)),
        Pass::SegmentReduce | Pass::MetricsReduce => {
            let work = chunks.iter().filter_map(|chunk| parts_work(plan, segments?, chunk, limits).transpose());
            work.collect()
        }
        Pass::SegmentUpdate | Pass::MetricsTotal => {
            Ok(once(limits.grid(segments.map_or(0, |segments| segments.count() as u64))?))
        }
        Pass::Update
        | Pass::UpdateSinglePass
        | Pass::AuxiliaryUpdate(_)
        | Pass::Accumulate
        | Pass::Perturb
        | Pass::RestoreParams => over_chunks(&|chunk| chunk.len.div_ceil(UPDATE_LEN)),
    }
}

/// One lane per factor partial that may have elements in the chunk.
fn partials_work<'a>(plan: &StepPlan, chunk: &'a Chunk, limits: &ChunkLimits) -> Work<'a> {
    let partials = plan.factors.as_ref().map_or(0..0, |factors| factors.partials_in(chunk.start..chunk.end()));
    let uniform = ChunkUniform {
        first_partial: partials.start as u32,
        end_partial: partials.end as u32,
        ..chunk.uniform(&plan.groups)
    };
    let variant = Variant { aligned: false, group_lookup: GroupLookup::Search, ..chunk.variant(&plan.groups) };
    let grid = limits.capped_grid((partials.len() as u64).div_ceil(u64::from(WORKGROUP_SIZE)));
    Work { chunk: Some((chunk, uniform)), variant, grid }
}

/// One lane per row of each tensor with projections that has elements in the chunk.
fn projection_work<'a>(plan: &StepPlan, chunk: &'a Chunk, limits: &ChunkLimits) -> Result<Vec<Work<'a>>, Error> {
    let Some(rows) = plan.groups.rows() else { return Ok(Vec::new()) };
    let work = |(tensor, rows): (u32, std::ops::Range<u32>)| {
        let (first_row, end_row) = (rows.start, rows.end);
        let uniform = ChunkUniform { first_row, end_row, tensor, ..chunk.uniform(&plan.groups) };
        let variant = Variant { aligned: false, group_lookup: GroupLookup::Search, ..chunk.variant(&plan.groups) };
        let grid = limits.grid(u64::from(end_row - first_row).div_ceil(u64::from(WORKGROUP_SIZE)))?;
        Ok(Work { chunk: Some((chunk, uniform)), variant, grid })
    };
    rows.projected_in(chunk.start as u32, chunk.end() as u32)?.into_iter().map(work).collect()
}

/// One workgroup per segment part in the chunk; `None` without a part.
fn parts_work<'a>(
    plan: &StepPlan,
    segments: &Segments,
    chunk: &'a Chunk,
    limits: &ChunkLimits,
) -> Result<Option<Work<'a>>, Error> {
    let name = &plan.rule.spec().name;
    let (first, end) = (segments.part_at(chunk.start, name)?, segments.part_at(chunk.end(), name)?);
    let uniform = ChunkUniform { first_part: first as u32, ..chunk.uniform(&plan.groups) };
    let variant = chunk.variant(&plan.groups);
    // The kernel reads four elements as they lie in the flat space, wherever the chunk begins.
    let variant = Variant { aligned: variant.aligned && chunk.start.is_multiple_of(4), ..variant };
    let grid = limits.grid((end - first) as u64)?;
    Ok((first < end).then_some(Work { chunk: Some((chunk, uniform)), variant, grid }))
}

/// The uniforms of the chunks, [`CHUNK_STRIDE`] bytes apart.
pub(super) fn chunk_uniforms<T: bytemuck::Pod>(device: &wgpu::Device, uniforms: &[T]) -> Result<Buffer, Error> {
    let mut words = vec![0u32; uniforms.len().max(1) * CHUNK_STRIDE as usize / 4];
    check_limit("max_buffer_size", words.len() as u64 * 4, device.limits().max_buffer_size)?;
    for (slot, uniform) in words.chunks_exact_mut(CHUNK_STRIDE as usize / 4).zip(uniforms) {
        slot[..size_of::<T>() / 4].copy_from_slice(bytemuck::cast_slice(bytemuck::bytes_of(uniform)));
    }
    Ok(init_buffer(device, "wgpu-optim chunks", BufferUsages::UNIFORM, &words))
}

impl StepContext<'_> {
    fn dispatch(&mut self, pass: Pass, work: &Work<'_>, uniform: (&Buffer, u64)) -> Result<Dispatch, Error> {
        let kernel = self.pipelines.get(self.plan, pass, work.variant.for_pass(pass))?;
        let chunk = work.chunk.as_ref().map(|(chunk, _)| *chunk);
        let bind_group = (pass != Pass::Decide).then(|| self.bind(pass, &kernel, chunk, uniform));
        let (pipeline, reads_uniforms) = (kernel.pipeline.clone(), kernel.reads_uniforms);
        let binder = chunk.map(|chunk| {
            let uniform = (uniform.0.clone(), uniform.1);
            Binder { pass, kernel, chunk: chunk.clone(), uniform }
        });
        Ok(Dispatch { pass, pipeline, bind_group, reads_uniforms, grid: work.grid, binder })
    }

    /// Binds each variable of the kernel to the resource of the same name.
    fn bind(
        &self,
        pass: Pass,
        kernel: &Kernel,
        chunk: Option<&Chunk>,
        (uniforms, offset): (&Buffer, u64),
    ) -> BindGroup {
        let f32_moments = chunk.is_some_and(|chunk| chunk.f32_moments);
        let streams = bound_streams(self.plan, pass, f32_moments);
        let stream = |name: &str| {
            let name = name.strip_suffix("_words")?;
            let number = streams.iter().find(|(_, stream)| stream.name == name)?.0;
            let bound = chunk?.stream(number);
            Some(buffer_binding(&bound.buffer, bound.offset, bound.size))
        };
        kernel.bind_group(self.device, "wgpu-optim chunk", |name| match name {
            "chunk" => Some(buffer_binding(uniforms, offset, size_of::<ChunkUniform>() as u64)),
            "present_tensors" => self.present.as_ref().map(|(tensors, _)| tensors.as_entire_binding()),
            name => stream(name).or_else(|| self.resources.binding(name)),
        })
    }
}

/// The bind group of `decide`, with the buffer of the gradient scale.
pub(crate) fn decide_bind_group(
    device: &wgpu::Device,
    kernel: &Kernel,
    resources: &Resources,
    grad_scale: &Buffer,
) -> BindGroup {
    kernel.bind_group(device, "wgpu-optim decide", |name| match name {
        "grad_scale" => Some(buffer_binding(grad_scale, 0, 4)),
        name => resources.binding(name),
    })
}
