//! The optimizer's own buffers.

use wgpu::{BindingResource, Buffer, BufferBinding, BufferUsages};

use super::buffer_slices::BufferRange;
use super::chunking::{ChunkLimits, tile_count};
use super::limits::check_limit;
use super::state_buffers::{GivenStates, STATE_USAGE};
use crate::Error;
use crate::factors::Factors;
use crate::kernels::bias_correction::BiasPowers;
use crate::kernels::control::{ControlBlock, NONE};
use crate::kernels::loss_scale::LossScale;
#[cfg(not(target_arch = "wasm32"))]
use crate::plan::Pass;
use crate::plan::StepPlan;
use crate::segments::Segments;
use crate::storage::Dtype;
use crate::tile::TILE_LEN;

/// The buffers whose contents the next step reads, beside parameters and history.
#[derive(Debug)]
pub(crate) struct PersistentBuffers {
    pub(crate) control: Buffer,
    /// Written by a single-pass step in place of `control`, which it reads.
    pub(crate) next: Buffer,
    /// 1 while others have the place of the training parameters.
    pub(crate) params_replaced: Buffer,
    /// Each state: in as many buffers as the limits require, or where the program gave them.
    pub(crate) states: Vec<Vec<BufferRange>>,
    pub(crate) segments: Option<Buffer>,
    pub(crate) factors: Option<Buffer>,
    pub(crate) norms: Option<Buffer>,
    pub(crate) loss_scale: Option<Buffer>,
    pub(crate) metric_table: Option<Buffer>,
    pub(crate) row_table: Option<Buffer>,
    /// A [`TensorStep`] for each tensor, where gradients may be missing.
    pub(crate) tensor_steps: Option<Buffer>,
}

impl PersistentBuffers {
    /// All buffers but those of states.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Buffer> {
        let Self {
            control,
            next,
            params_replaced,
            states: _,
            segments,
            factors,
            norms,
            loss_scale,
            metric_table,
            row_table,
            tensor_steps,
        } = self;
        let tables =
            [segments, factors, norms, loss_scale, metric_table, row_table, tensor_steps].into_iter().flatten();
        [control, next, params_replaced].into_iter().chain(tables)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Buffer> {
        self.tables().chain(self.states.iter().flatten().map(|range| &range.buffer))
    }

    /// These states with as many tables, made by `copy`.
    pub(crate) fn copied(&self, states: Vec<Vec<BufferRange>>, mut copy: impl FnMut(&Buffer) -> Buffer) -> Self {
        let Self {
            control,
            next,
            params_replaced,
            states: _,
            segments,
            factors,
            norms,
            loss_scale,
            metric_table,
            row_table,
            tensor_steps,
        } = self;
        Self {
            control: copy(control),
            next: copy(next),
            params_replaced: copy(params_replaced),
            states,
            segments: segments.as_ref().map(&mut copy),
            factors: factors.as_ref().map(&mut copy),
            norms: norms.as_ref().map(&mut copy),
            loss_scale: loss_scale.as_ref().map(&mut copy),
            metric_table: metric_table.as_ref().map(&mut copy),
            row_table: row_table.as_ref().map(&mut copy),
            tensor_steps: tensor_steps.as_ref().map(&mut copy),
        }
    }
}

/// The same ranges of buffers made by `copy`.
pub(crate) fn copied_ranges(ranges: &[BufferRange], copy: &mut impl FnMut(&Buffer) -> Buffer) -> Vec<BufferRange> {
    ranges.iter().map(|range| BufferRange { buffer: copy(&range.buffer), ..range.clone() }).collect()
}

#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) persistent: PersistentBuffers,
    pub(crate) given: GivenStates,
    groups: Buffer,
    tile_sums: Buffer,
    pub(crate) powers: Buffer,
    /// The word 1, copied to flags.
    pub(crate) one: Buffer,
    /// The factors of gradients in a perturbation.
    perturbation: Buffer,
    /// A gradient scale of 1, bound if the host gives the scale.
    pub(crate) unit_scale: Buffer,
}

impl Resources {
    /// # Errors
    /// [`Error::DeviceLimit`].
    pub(crate) fn new(device: &wgpu::Device, plan: &mut StepPlan, given: GivenStates) -> Result<Self, Error> {
        let limits = ChunkLimits::new(&device.limits());
        let (max_binding, max_buffer_size) =
            (device.limits().max_storage_buffer_binding_size, device.limits().max_buffer_size);
        check_limit("max_storage_buffer_binding_size", limits.min_binding(), max_binding)?;
        check_limit("max_buffer_size", limits.min_binding(), max_buffer_size)?;
        let spec = plan.rule.spec();
        let powers = BiasPowers::new(&spec.bias_corrected);
        let block = plan.first_block(&powers);
        let len = plan.layout.len() as u64;
        // An empty flat space has one tile sum, which reports no finding.
        let tile_sums = [0, 0, 0, NONE].repeat(tile_count(len) as usize);
        let groups = plan.groups.words_within(limits.binding);
        let segments = plan.segments.as_ref().map(Segments::words);
        let factors = plan.factors.as_ref().map(Factors::words);
        let metric_table = plan.sampler.as_ref().map(|sampler| sampler.words());
        let row_table = plan.groups.row_words();
        let tensor_steps = plan.tensor_steps(0).map(|steps| bytemuck::cast_slice(&steps).to_vec());
        let tables = [&segments, &factors, &metric_table, &row_table, &tensor_steps].map(Option::as_ref);
        let tables = tables.into_iter().chain([Some(&tile_sums), Some(&groups)]);
        for words in tables.flatten() {
            check_limit("max_storage_buffer_binding_size", words.len() as u64 * 4, max_binding)?;
            check_limit("max_buffer_size", words.len() as u64 * 4, max_buffer_size)?;
        }
        let constant = |label, words: &[u32]| init_buffer(device, label, BufferUsages::STORAGE, words);
        let table = |label: &str, words: &[u32]| {
            init_buffer(device, label, BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST, words)
        };
        let block = bytemuck::cast_slice(bytemuck::bytes_of(&block));
        let copied = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let states = 0..plan.states.len();
        let own = |i| state_ranges(device, plan, i, &plan.states[i].name, plan.states[i].initial);
        let states = states.map(|i| given.ranges(i).map_or_else(|| own(i), <[BufferRange]>::to_vec));
        let persistent = PersistentBuffers {
            control: init_buffer(device, "wgpu-optim control", copied | BufferUsages::UNIFORM, block),
            next: init_buffer(device, "wgpu-optim next control", copied, block),
            params_replaced: table("wgpu-optim params replaced", &[0]),
            states: states.collect(),
            segments: segments.map(|words| table("wgpu-optim segments", &words)),
            factors: factors.map(|words| table("wgpu-optim factors", &words)),
            norms: plan.norm_window().map(|window| table("wgpu-optim norms", &vec![0; 1 + window as usize])),
            loss_scale: plan.settings.grad_scaler.as_ref().map(|scaler| {
                let words: Vec<u32> = bytemuck::pod_collect_to_vec(bytemuck::bytes_of(&LossScale::new(scaler)));
                init_buffer(device, "wgpu-optim loss scale", copied | BufferUsages::UNIFORM, &words)
            }),
            metric_table: metric_table.map(|words| table("wgpu-optim metrics", &words)),
            row_table: row_table.map(|words| table("wgpu-optim rows", &words)),
            tensor_steps: tensor_steps.map(|words: Vec<u32>| table("wgpu-optim tensor steps", &words)),
        };
        Ok(Self {
            persistent,
            given,
            groups: constant("wgpu-optim groups", &groups),
            tile_sums: table("wgpu-optim tile sums", &tile_sums),
            powers: init_buffer(
                device,
                "wgpu-optim powers",
                BufferUsages::UNIFORM,
                bytemuck::cast_slice(powers.bytes()),
            ),
            one: init_buffer(device, "wgpu-optim one", BufferUsages::COPY_SRC, &[1]),
            perturbation: init_buffer(
                device,
                "wgpu-optim perturbation",
                BufferUsages::STORAGE | BufferUsages::UNIFORM,
                &[0; 4],
            ),
            unit_scale: constant("wgpu-optim unit scale", &[1f32.to_bits()]),
        })
    }

    /// Refuses ranges in the optimizer's own buffers, and beside states in buffers of the program.
    pub(crate) fn check_apart(&self, ranges: &[BufferRange], what: &'static str) -> Result<(), Error> {
        let mut own: Vec<&Buffer> = self.persistent.iter().filter(|buffer| !self.given.holds(buffer)).collect();
        own.sort();
        if ranges.iter().any(|range| own.binary_search(&&range.buffer).is_ok()) {
            return Err(Error::AliasedBuffers { first: what, second: "a state of the optimizer" });
        }
        self.given.check_apart(ranges, what)
    }

    /// The rows of a pass's sums over parts: their buffer, the first byte, and the bytes of each.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn sum_rows(&self, pass: Pass, plan: &StepPlan) -> Option<(&Buffer, u64, u64)> {
        match pass {
            Pass::GlobalNorm | Pass::SamNorm => Some((&self.tile_sums, 0, 16)),
            Pass::SegmentReduce => {
                let first = plan.segments.as_ref()?.part_bytes();
                Some((self.persistent.segments.as_ref()?, first.start, first.end - first.start))
            }
            Pass::MetricsReduce => {
                let first = plan.sampler.as_ref()?.part_bytes();
                Some((self.persistent.metric_table.as_ref()?, first.start, first.end - first.start))
            }
            _ => None,
        }
    }

    /// The resource of a variable in the WGSL, by its name; `None` for those of chunks, streams and the gradient scale.
    pub(crate) fn binding(&self, name: &str) -> Option<BindingResource<'_>> {
        let own = &self.persistent;
        Some(match name {
            "control" => buffer_binding(&own.control, 0, ControlBlock::CONTROL_BYTES),
            "block" => own.control.as_entire_binding(),
            "next" => own.next.as_entire_binding(),
            "groups" => self.groups.as_entire_binding(),
            "params_replaced" => own.params_replaced.as_entire_binding(),
            "perturbation" => self.perturbation.as_entire_binding(),
            "tile_sums" => self.tile_sums.as_entire_binding(),
            "segments" => own.segments.as_ref()?.as_entire_binding(),
            "factors" => own.factors.as_ref()?.as_entire_binding(),
            "loss_scale" => own.loss_scale.as_ref()?.as_entire_binding(),
            "norms" => own.norms.as_ref()?.as_entire_binding(),
            "metric_table" => own.metric_table.as_ref()?.as_entire_binding(),
            "tensor_step_table" => own.tensor_steps.as_ref()?.as_entire_binding(),
            "row_table" => own.row_table.as_ref()?.as_entire_binding(),
            _ => return None,
        })
    }
}

/// A buffer that begins with `words`.
pub(crate) fn init_buffer(device: &wgpu::Device, label: &str, usage: BufferUsages, words: &[u32]) -> Buffer {
    use wgpu::util::{BufferInitDescriptor, DeviceExt};
    let contents = bytemuck::cast_slice(words);
    device.create_buffer_init(&BufferInitDescriptor { label: Some(label), contents, usage })
}

/// Writes bytes into whole words of a buffer. The rest of the last word is padding.
#[cfg(any(feature = "safetensors", not(target_arch = "wasm32")))]
pub(crate) fn write_words(queue: &wgpu::Queue, buffer: &Buffer, offset: u64, bytes: &[u8]) {
    let (words, rest) = bytes.split_at(bytes.len() / 4 * 4);
    queue.write_buffer(buffer, offset, words);
    if !rest.is_empty() {
        let mut word = [0; 4];
        word[..rest.len()].copy_from_slice(rest);
        queue.write_buffer(buffer, offset + words.len() as u64, &word);
    }
}

/// `size` bytes of a buffer from `offset` on.
pub(crate) fn buffer_binding(buffer: &Buffer, offset: u64, size: u64) -> BindingResource<'_> {
    BindingResource::Buffer(BufferBinding { buffer, offset, size: wgpu::BufferSize::new(size) })
}

/// Bytes appended to a state's buffer, if allowed: consecutive buffers of 2^n bytes would map to the same cache sets.
const STATE_STAGGER_BYTES: u64 = 1024;

/// Buffers for one stream, each of a multiple of 16 bytes, filled with a value.
pub(crate) fn stream_ranges(
    device: &wgpu::Device,
    name: &str,
    (dtype, initial): (Dtype, f32),
    len: u64,
) -> Vec<BufferRange> {
    let max_buffer_size = device.limits().max_buffer_size / 16 * 16;
    let blocks = max_buffer_size / dtype.bytes(dtype.block_len());
    let max_len = blocks.saturating_mul(dtype.block_len()) / TILE_LEN as u64 * TILE_LEN as u64;
    let word = dtype.word_of(initial);
    let range = |start: u64| {
        let len = max_len.min(len - start);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(&format!("wgpu-optim {name}")),
            size: (dtype.bytes(len).next_multiple_of(16) + STATE_STAGGER_BYTES).min(max_buffer_size),
            usage: STATE_USAGE,
            mapped_at_creation: word != 0,
        });
        if word != 0 {
            fill(&buffer, word);
        }
        BufferRange { buffer, offset: 0, start, len, dtype }
    };
    (0..len.div_ceil(max_len)).map(|i| range(i * max_len)).collect()
}

/// Buffers for a state, filled with a value.
pub(crate) fn state_ranges(
    device: &wgpu::Device,
    plan: &StepPlan,
    number: usize,
    name: &str,
    initial: f32,
) -> Vec<BufferRange> {
    let dtype = plan.states[number].dtype;
    if !plan.is_small(number) {
        let ranges = stream_ranges(device, name, (dtype, initial), plan.share.len() as u64);
        let first = plan.share.start as u64;
        return ranges.into_iter().map(|range| BufferRange { start: first + range.start, ..range }).collect();
    }
    let packed = stream_ranges(device, name, (dtype, initial), plan.f32_parts.len() as u64);
    let mut ranges = Vec::new();
    for part in plan.f32_parts.ranges() {
        let first = plan.f32_parts.position(part.start) as u64;
        for range in &packed {
            let (start, end) = (first.max(range.start), (first + part.len() as u64).min(range.end()));
            if start < end {
                let (offset, start) = (range.offset_of(start), part.start as u64 + start - first);
                ranges.push(BufferRange {
                    offset,
                    start,
                    len: end - (start - part.start as u64 + first),
                    ..range.clone()
                });
            }
        }
    }
    ranges
}

/// Buffers for copies of the gradients of all steps.
pub(crate) fn gathered_ranges(device: &wgpu::Device, plan: &StepPlan) -> Vec<BufferRange> {
    let dtype = if plan.settings.accumulates { Dtype::F32 } else { plan.settings.precision.grads };
    stream_ranges(device, "gathered gradients", (dtype, 0.0), plan.layout.len() as u64)
}

/// Fills a buffer that is mapped at creation, and unmaps it.
fn fill(buffer: &Buffer, word: u32) {
    let block = [word; 1024];
    if let Ok(mut view) = buffer.get_mapped_range_mut(..) {
        let len = view.len();
        for start in (0..len).step_by(size_of_val(&block)) {
            let end = len.min(start + size_of_val(&block));
            view.slice(start..end).copy_from_slice(&bytemuck::cast_slice(&block)[..end - start]);
        }
    }
    buffer.unmap();
}
