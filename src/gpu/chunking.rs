//! Cuts the flat space into chunks. A chunk is the contiguous range of elements that one dispatch binds.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::buffer_slices::{BufferRange, WHOLE_WORDS};
use super::limits::check_limit;
use super::shader::{GradBinding, GroupLookup, Variant};
use crate::Error;
use crate::groups::{BLOCK_LEN, GroupSpan, GroupTable};
use crate::storage::MAX_STREAMS;
use crate::tile::TILE_LEN;

const TILE: u64 = TILE_LEN as u64;
/// Elements that one workgroup of the update kernels handles.
pub(crate) const UPDATE_LEN: u64 = 1024;
/// Maximum elements of a chunk: byte offsets, which some shading languages compute in u32, stay below 2^32 even where the
/// grid exceeds the chunk.
const MAX_CHUNK_LEN: u64 = (1 << 30) - (1 << 20);
/// Minimum of `max_compute_workgroups_per_dimension`: a tile is eight workgroups of the update kernels.
pub(crate) const MIN_GRID: u32 = 3;
/// Chunks of more elements than this are split if that leaves all but a tail accessible four elements at a time.
const MIN_SPLIT_LEN: u64 = 1 << 16;

/// Chunks that zeros in place of missing gradients are cut into at most, if these are all missing side by side.
const MAX_ZERO_CHUNKS: u64 = 64;

/// The limits of the device that chunking depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkLimits {
    /// Bytes of one binding.
    pub(crate) binding: u64,
    /// Alignment of a binding's offset, in bytes.
    pub(crate) alignment: u64,
    pub(crate) workgroups_per_dimension: u32,
}

impl ChunkLimits {
    pub(crate) fn new(limits: &wgpu::Limits) -> Self {
        Self {
            // A scratch buffer is as long as its binding.
            binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            alignment: limits.min_storage_buffer_offset_alignment.into(),
            workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        }
    }

    /// The smallest binding that holds a tile wherever it begins.
    pub(crate) fn min_binding(&self) -> u64 {
        TILE * 4 + self.alignment + 16
    }

    /// The bytes that a binding of `start..start + len` covers.
    fn bytes_of(&self, range: &BufferRange, start: u64, len: u64, aligned: bool) -> Range<u64> {
        let (first, bytes) = (range.offset_of(start), range.dtype.bytes(len));
        let unit = if aligned { range.dtype.bytes(4) } else { 4 };
        let offset = first - first % self.alignment;
        offset..offset + (first - offset + bytes).next_multiple_of(unit.max(4))
    }

    fn max_len(&self) -> u64 {
        let workgroups = u64::from(self.workgroups_per_dimension).saturating_pow(2);
        let bound = (self.binding - self.alignment - 16) / 4;
        bound.min(MAX_CHUNK_LEN).min(workgroups.saturating_mul(UPDATE_LEN)) / TILE * TILE
    }

    /// A grid of at least `workgroups`, fewer than one row more.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`].
    pub(crate) fn grid(&self, workgroups: u64) -> Result<[u32; 2], Error> {
        let root = workgroups.isqrt();
        let required = root + u64::from(root * root < workgroups);
        check_limit("max_compute_workgroups_per_dimension", required, self.workgroups_per_dimension.into())?;
        Ok(self.rows(workgroups))
    }

    /// `workgroups` in rows of equal length.
    fn rows(&self, workgroups: u64) -> [u32; 2] {
        let rows = workgroups.div_ceil(self.workgroups_per_dimension.into()).max(1);
        [workgroups.div_ceil(rows) as u32, rows as u32]
    }

    /// As `grid`, for kernels whose lanes loop if the device's maximum grid has too few.
    pub(crate) fn capped_grid(&self, workgroups: u64) -> [u32; 2] {
        self.rows(workgroups.min(u64::from(self.workgroups_per_dimension).saturating_pow(2)))
    }
}

/// `Chunk` of the WGSL.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct ChunkUniform {
    pub(crate) start: u32,
    pub(crate) length: u32,
    pub(crate) first: u32,
    pub(crate) first_part: u32,
    pub(crate) lr_selector: f32,
    pub(crate) weight_decay: f32,
    pub(crate) segment: u32,
    pub(crate) first_block: u32,
    pub(crate) first_partial: u32,
    pub(crate) end_partial: u32,
    pub(crate) first_row: u32,
    pub(crate) end_row: u32,
    pub(crate) tensor: u32,
    pub(crate) seed: u32,
    pub(crate) padding: [u32; 2],
    pub(crate) shifts: [u32; MAX_STREAMS],
}

/// A chunk's elements in one stream's buffer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BoundRange {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// Elements of the binding before the chunk.
    shift: u32,
}

/// Contiguous elements that lie in one binding of every stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// Index of the first of `streams` among the optimizer's streams.
    first_stream: usize,
    pub(crate) streams: Vec<BoundRange>,
    /// Whether every stream is accessible four elements at a time.
    aligned: bool,
    /// Whether the first number of a stream that kernels write is the second of a word.
    pub(crate) begins_within_word: bool,
    pub(crate) grads: GradBinding,
    /// Whether moments are f32 here, beside moments of 8 bits.
    pub(crate) f32_moments: bool,
}

impl Chunk {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }

    /// The binding of a stream, by its index among the optimizer's streams.
    pub(crate) fn stream(&self, number: usize) -> &BoundRange {
        &self.streams[number - self.first_stream]
    }

    /// The binding of a stream, if the chunk has one.
    pub(crate) fn stream_mut(&mut self, number: usize) -> Option<&mut BoundRange> {
        self.streams.get_mut(number.checked_sub(self.first_stream)?)
    }

    pub(crate) fn uniform(&self, groups: &GroupTable) -> ChunkUniform {
        let span = self.only_span(groups).or(groups.only_options());
        ChunkUniform {
            start: self.start as u32,
            length: self.len as u32,
            lr_selector: span.map_or(0.0, |span| span.lr_selector),
            weight_decay: span.map_or(0.0, |span| span.weight_decay),
            segment: span.and_then(|span| span.segment).unwrap_or_default(),
            first_block: groups.first_block(),
            shifts: self.shifts(),
            ..ChunkUniform::default()
        }
    }

    /// The chunk's first element in each stream's binding.
    pub(crate) fn shifts(&self) -> [u32; MAX_STREAMS] {
        let mut shifts = [0; MAX_STREAMS];
        for (shift, bound) in shifts[self.first_stream..].iter_mut().zip(&self.streams) {
            *shift = bound.shift;
        }
        shifts
    }

    /// The variant of kernels for this chunk.
    pub(crate) fn variant(&self, groups: &GroupTable) -> Variant {
        let group_lookup = if self.only_span(groups).is_some() {
            GroupLookup::Uniform
        } else if !groups.has_blocks() || !self.start.is_multiple_of(BLOCK_LEN.into()) {
            GroupLookup::Search
        } else if groups.only_options().is_some() {
            GroupLookup::Padded
        } else {
            GroupLookup::Block
        };
        let shifted = self.grads != GradBinding::Own || self.streams.iter().any(|bound| bound.shift != 0);
        Variant { aligned: self.aligned, shifted, group_lookup, grads: self.grads, f32_moments: self.f32_moments }
    }

    fn only_span<'a>(&self, groups: &'a GroupTable) -> Option<&'a GroupSpan> {
        groups.only_span(self.start as u32, self.end() as u32)
    }

    /// Binds `start..start + len`, which lies in one range of each stream, for kernels that only read.
    fn new(start: u64, len: u64, (first_stream, ranges): (usize, &[&BufferRange]), limits: &ChunkLimits) -> Self {
        let aligned = ranges.iter().all(|range| {
            let quad = range.dtype.bytes(4);
            let (offset, bytes) = (range.offset_of(start), range.dtype.bytes(len));
            offset.is_multiple_of(quad) && offset + bytes.next_multiple_of(quad) <= range.buffer.size()
        });
        let bind = |range: &&BufferRange| BoundRange::new(range, start, limits.bytes_of(range, start, len, aligned));
        let streams = ranges.iter().map(bind).collect();
        Self {
            start,
            len,
            first_stream,
            streams,
            aligned,
            begins_within_word: false,
            grads: GradBinding::Own,
            f32_moments: false,
        }
    }

    /// As [`Chunk::new`], for kernels that write parameters and states, whose bindings must not overlap those of gradients.
    /// States keep their distance: see `GivenStates`.
    fn writable(start: u64, len: u64, ranges: &[&BufferRange], limits: &ChunkLimits) -> Self {
        let chunk = Self::new(start, len, (0, ranges), limits);
        let [params, grads, states @ ..] = ranges else { return chunk };
        let is_cut = |range: &&BufferRange| !range.offset_of(start).is_multiple_of(4);
        let chunk = Self { begins_within_word: [params].into_iter().chain(states).any(is_cut), ..chunk };
        if params.buffer != grads.buffer {
            let is_written = states.iter().any(|state| state.buffer == grads.buffer);
            return Self { grads: if is_written { GradBinding::Writable } else { GradBinding::Own }, ..chunk };
        }
        let bytes_of = |aligned| [params, grads].map(|range| limits.bytes_of(range, start, len, aligned));
        let [of_params, of_grads] = bytes_of(chunk.aligned);
        if of_params.end <= of_grads.start || of_grads.end <= of_params.start {
            return Self { grads: GradBinding::Writable, ..chunk };
        }
        // Quads of the parameters might reach into the gradients.
        let [of_params, of_grads] = bytes_of(false);
        let both = of_params.start.min(of_grads.start)..of_params.end.max(of_grads.end);
        let others = states.iter().map(|range| (range, limits.bytes_of(range, start, len, false)));
        let streams = [(params, both.clone()), (grads, both)].into_iter().chain(others);
        let streams = streams.map(|(range, bytes)| BoundRange::new(range, start, bytes)).collect();
        Self { streams, aligned: false, grads: GradBinding::WithParams, ..chunk }
    }
}

impl BoundRange {
    /// Binds these bytes for a chunk that begins at `start`.
    fn new(range: &BufferRange, start: u64, bytes: Range<u64>) -> Self {
        Self {
            buffer: range.buffer.clone(),
            offset: bytes.start,
            size: bytes.end - bytes.start,
            shift: ((range.offset_of(start) - bytes.start) / range.dtype.bytes(1)) as u32,
        }
    }
}

/// Adds `start..end`: as one chunk if it is aligned or small, else as an aligned chunk up to `body_end` and its tail. `bind`
/// makes the chunk of a start and a length.
fn push(chunks: &mut Vec<Chunk>, (start, end): (u64, u64), body_end: u64, bind: impl Fn(u64, u64) -> Chunk) {
    let chunk = bind(start, end - start);
    let body = bind(start, body_end.saturating_sub(start));
    if chunk.aligned || !body.aligned || body.len < MIN_SPLIT_LEN {
        chunks.push(chunk);
        return;
    }
    let tail = bind(body.end(), chunk.len - body.len);
    chunks.extend([body, tail]);
}

/// Cuts the flat space where any stream changes its buffer, and where the device's limits require it. Elements that a
/// stream does not hold are padding, and in no chunk. With `whole_parts`, tails are cut where segment parts end, too.
pub(crate) fn chunks(streams: &[&[BufferRange]], limits: &ChunkLimits, whole_parts: bool) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut at = vec![0; streams.len()];
    let mut start = 0;
    loop {
        for (at, ranges) in at.iter_mut().zip(streams) {
            while ranges.get(*at).is_some_and(|range| range.end() <= start) {
                *at += 1;
            }
        }
        let ranges: Option<Vec<&BufferRange>> = at.iter().zip(streams).map(|(&at, ranges)| ranges.get(at)).collect();
        let Some(ranges) = ranges else { return chunks };
        let begin = ranges.iter().map(|range| range.start).max().unwrap_or(start);
        if begin > start {
            start = begin;
            continue;
        }
        let end = ranges.iter().map(|range| range.end()).min().unwrap_or(start);
        let mut end = end.min((start + limits.max_len()) / TILE * TILE);
        let bind = |start, len| Chunk::writable(start, len, &ranges, limits);
        // The bindings of either part are apart.
        let cut = (start + TILE).next_multiple_of(TILE);
        if cut < end && bind(start, end - start).grads == GradBinding::WithParams {
            end = cut;
        }
        let body_end = if whole_parts { end / TILE * TILE } else { start + (end - start) / 4 * 4 };
        push(&mut chunks, (start, end), body_end, bind);
        start = end;
    }
}

/// A copy of gradients into a scratch buffer, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScratchCopy {
    pub(crate) source: wgpu::Buffer,
    pub(crate) source_offset: u64,
    pub(crate) target: wgpu::Buffer,
    pub(crate) target_offset: u64,
    pub(crate) size: u64,
}

/// The chunks of `global_norm`. Whole tiles are read in place. Tiles that are split between buffers are first copied to
/// a scratch buffer, so that their sums have the same bits.
#[derive(Debug, Default)]
pub(crate) struct NormChunks {
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) copies: Vec<ScratchCopy>,
}

impl NormChunks {
    /// The chunks over gradients, and over parameters if the norm needs them; with the number of the first stream. The
    /// elements end with a tile or with the flat space.
    /// `make_scratch` creates a buffer of that many bytes, all 0.
    pub(crate) fn new(
        (first_stream, streams): (usize, Vec<&[BufferRange]>),
        Range { mut start, end: len }: Range<u64>,
        limits: &ChunkLimits,
        mut make_scratch: impl FnMut(u64) -> wgpu::Buffer,
    ) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut at = vec![0; streams.len()];
        let mut zeros: Option<BufferRange> = None;
        while start < len {
            for (at, ranges) in at.iter_mut().zip(&streams) {
                while ranges.get(*at).is_some_and(|range| range.end() <= start) {
                    *at += 1;
                }
            }
            let is_gap = |tile: u64| {
                at.iter().zip(&streams).all(|(&at, ranges)| {
                    let next = ranges[at..].iter().find(|range| range.end() > tile);
                    next.is_none_or(|range| range.start >= tile + TILE)
                })
            };
            let gap_end = (start..len).step_by(TILE as usize).find(|&tile| !is_gap(tile)).unwrap_or(len);
            if gap_end > start {
                // All tiles of missing gradients share a few zeros.
                let zeros = zeros.get_or_insert_with(|| {
                    let len = (len / MAX_ZERO_CHUNKS).next_multiple_of(TILE).clamp(TILE, limits.max_len());
                    let dtype = streams.iter().find_map(|ranges| ranges.first()).map(|range| range.dtype);
                    let (buffer, dtype) = (make_scratch(4 * len), dtype.unwrap_or_default());
                    BufferRange { buffer, offset: 0, start: 0, len, dtype }
                });
                for first in (start..gap_end).step_by(zeros.len as usize) {
                    let range = BufferRange { start: first, len: zeros.len.min(gap_end - first), ..zeros.clone() };
                    let ranges = vec![&range; streams.len()];
                    plan.chunks.push(Chunk::new(first, range.len, (first_stream, &ranges), limits));
                }
                start = gap_end;
                continue;
            }
            let ranges = at.iter().zip(&streams).map(|(&at, ranges)| {
                ranges.get(at).filter(|range| range.start <= start && whole_tiles_end(range, len) > start)
            });
            if let Some(ranges) = ranges.collect::<Option<Vec<&BufferRange>>>() {
                let ends = ranges.iter().map(|range| whole_tiles_end(range, len));
                let end = ends.fold(start + limits.max_len(), u64::min);
                let bind = |start, len| Chunk::new(start, len, (first_stream, &ranges), limits);
                push(&mut plan.chunks, (start, end), end / TILE * TILE, bind);
                start = end;
                continue;
            }
            // Consecutive cut tiles share a scratch buffer.
            let max_end = len.min(start + limits.max_len());
            let mut end = (start + TILE).min(max_end);
            let is_cut = |tile| {
                at.iter().zip(&streams).any(|(&at, ranges)| {
                    let mut ranges = ranges[at..].iter().take_while(|range| range.start <= tile);
                    ranges.all(|range| whole_tiles_end(range, len) <= tile)
                })
            };
            while end < max_end && is_cut(end) && !is_gap(end) {
                end = (end + TILE).min(max_end);
            }
            let scratches = at.iter().zip(&streams).map(|(&at, ranges)| {
                let dtype = ranges.first().map(|range| range.dtype).unwrap_or_default();
                let scratch = make_scratch(dtype.bytes(end - start).next_multiple_of(16));
                for range in ranges[at..].iter().take_while(|range| range.start < end) {
                    plan.copies.push(ScratchCopy::new(range, &scratch, start..end)?);
                }
                Ok(BufferRange { buffer: scratch, offset: 0, start, len: end - start, dtype })
            });
            let scratches = scratches.collect::<Result<Vec<_>, Error>>()?;
            let scratches: Vec<_> = scratches.iter().collect();
            plan.chunks.push(Chunk::new(start, end - start, (first_stream, &scratches), limits));
            start = end;
        }
        Ok(plan)
    }
}

impl ScratchCopy {
    /// A copy of a range's elements among `elements` into a buffer that holds these.
    fn new(range: &BufferRange, target: &wgpu::Buffer, elements: Range<u64>) -> Result<Self, Error> {
        let (from, dtype) = (range.start.max(elements.start), range.dtype);
        let copy = Self {
            source: range.buffer.clone(),
            source_offset: range.offset_of(from),
            target: target.clone(),
            target_offset: dtype.bytes(from - elements.start),
            // Copies must be multiples of four bytes; after an odd 16-bit element there is padding.
            size: dtype.bytes(range.end().min(elements.end) - from).next_multiple_of(4),
        };
        if copy.source_offset.is_multiple_of(4) && copy.target_offset.is_multiple_of(4) {
            return Ok(copy);
        }
        Err(Error::Unsupported {
            what: format!("a slice of {dtype:?} gradients that begins at element {from}"),
            with: "sums over all gradients (clipping, a finite check, SAM)".to_owned(),
            remedy: WHOLE_WORDS,
        })
    }
}

/// End of the last tile that lies in a range as a whole.
fn whole_tiles_end(range: &BufferRange, len: u64) -> u64 {
    if range.end() == len { len } else { range.end() / TILE * TILE }
}

/// Tiles of a flat space, at least one.
pub(crate) fn tile_count(len: u64) -> u64 {
    len.div_ceil(TILE).max(1)
}

#[cfg(test)]
mod tests {
    use super::{BufferRange, Chunk, ChunkLimits, GradBinding, TILE, chunks};
    use crate::storage::Dtype;

    /// The bindings of a chunk, and where its elements begin in them.
    fn bound(chunk: &Chunk, ranges: [&BufferRange; 2]) -> [std::ops::Range<u64>; 2] {
        [0, 1].map(|number| {
            let bound = chunk.stream(number);
            let first = bound.offset + ranges[number].dtype.bytes(bound.shift.into());
            assert_eq!(first, ranges[number].offset_of(chunk.start), "{chunk:?}");
            assert!(first + ranges[number].dtype.bytes(chunk.len) <= bound.offset + bound.size, "{chunk:?}");
            bound.offset..bound.offset + bound.size
        })
    }

    /// Chunks of one slice each of parameters and gradients, `before` bytes apart.
    fn check(buffer: &wgpu::Buffer, alignment: u64, (offset, before): (u64, u64), len: u64, dtype: Dtype) {
        for grads_first in [false, true] {
            let range = |offset, dtype| BufferRange { buffer: buffer.clone(), offset, start: 0, len, dtype };
            let (mut params, mut grads) = (range(offset, Dtype::F32), range(offset, dtype));
            if grads_first {
                params.offset = (grads.offset + grads.bytes() + before).next_multiple_of(4);
            } else {
                grads.offset = params.offset + params.bytes() + before;
            }
            let limits = ChunkLimits { binding: 1 << 20, alignment, workgroups_per_dimension: 65_535 };
            let streams: [&[BufferRange]; 2] = [std::slice::from_ref(&params), std::slice::from_ref(&grads)];
            let chunks = chunks(&streams, &limits, true);
            assert_eq!(chunks.iter().map(|chunk| chunk.len).sum::<u64>(), len);
            for chunk in chunks {
                let [of_params, of_grads] = bound(&chunk, [&params, &grads]);
                let overlap = of_params.start < of_grads.end && of_grads.start < of_params.end;
                match chunk.grads {
                    GradBinding::Own => panic!("one buffer is read-only and writable: {chunk:?}"),
                    GradBinding::Writable => assert!(!overlap, "{chunk:?}"),
                    GradBinding::WithParams => {
                        assert_eq!(of_params, of_grads);
                        assert!(!chunk.aligned && chunk.len < 3 * TILE, "{chunk:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn bindings_of_one_buffer_are_apart_or_one() {
        let (device, _) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let usage = wgpu::BufferUsages::STORAGE;
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 8 << 20,
            usage,
            mapped_at_creation: false,
        });
        for alignment in [32, 256] {
            for dtype in Dtype::SINGLE {
                for len in [1, 5, 63, 64, 129, TILE - 1, TILE, 3 * TILE - 1, 3 * TILE, 3 * TILE + 5, 9 * TILE + 1] {
                    for offset in [0, 4, 8, 16, 252, 256] {
                        for before in [0, 4, 12, 32, 252, 256] {
                            check(&buffer, alignment, (offset, before), len, dtype);
                        }
                    }
                }
            }
        }
    }
}
