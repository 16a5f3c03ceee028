use bytemuck::{Pod, Zeroable};

use super::buffer_slices::Piece;
use super::shader::{Form, Options};
use crate::groups::{GroupSpan, GroupTable, LIVE_BLOCK};
use crate::tile::NORM_BLOCK;

/// Elements per norm partial.
const BLOCK: u64 = NORM_BLOCK as u64;
/// Largest chunk: byte offsets, which some shading languages compute in u32, stay below 2^32 with a grid's overhang.
const MAX_CHUNK: u64 = (1 << 30) - (1 << 20);
/// Elements of a workgroup of `update`.
const UPDATE_ELEMENTS: u64 = 1024;
/// The least `max_compute_workgroups_per_dimension`: a norm block is eight workgroups of `update`.
pub(crate) const LEAST_GRID: u32 = 3;
/// Chunks of more elements than this get a chunk of their own for a tail that is no multiple of four.
const WORTH_A_TAIL: u64 = 1 << 16;
/// Streams a [`ChunkUniform`] has room for.
pub(crate) const MAX_STREAMS: usize = 12;

/// What the plan needs to know of the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanLimits {
    /// Bytes one binding may cover.
    pub(crate) binding: u64,
    /// What a binding's offset must be a multiple of, in bytes.
    pub(crate) alignment: u64,
    pub(crate) workgroups_per_dimension: u32,
}

impl PlanLimits {
    pub(crate) fn new(limits: &wgpu::Limits) -> Self {
        Self {
            binding: limits.max_storage_buffer_binding_size,
            alignment: limits.min_storage_buffer_offset_alignment.into(),
            workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        }
    }

    /// The least binding that holds a norm block wherever it begins.
    pub(crate) fn least_binding(&self) -> u64 {
        BLOCK * 4 + self.alignment + 16
    }

    fn max_elements(&self) -> u64 {
        let workgroups = u64::from(self.workgroups_per_dimension).saturating_pow(2);
        let bound = (self.binding - self.alignment - 16) / 4;
        bound.min(MAX_CHUNK).min(workgroups.saturating_mul(UPDATE_ELEMENTS)) / BLOCK * BLOCK
    }

    /// The same for kernels whose lanes go on to further work where a grid cannot have enough of them.
    pub(super) fn capped_grid(&self, workgroups: u64) -> [u32; 2] {
        self.grid(workgroups.min(u64::from(self.workgroups_per_dimension).saturating_pow(2)))
    }

    /// A grid of at least `workgroups`, with fewer than one row to spare; a chunk needs no more than it allows.
    pub(crate) fn grid(&self, workgroups: u64) -> [u32; 2] {
        let rows = workgroups.div_ceil(self.workgroups_per_dimension.into()).max(1);
        [workgroups.div_ceil(rows) as u32, rows as u32]
    }
}

/// Twin of `Chunk` in `shaders/chunk.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct ChunkUniform {
    start: u32,
    length: u32,
    first: u32,
    pub(crate) first_item: u32,
    /// The options of all live elements, if they have the same.
    lr_scale: f32,
    weight_decay: f32,
    tensor: u32,
    blocks: u32,
    shifts: [u32; MAX_STREAMS],
}

/// Where a chunk lies in one stream's buffers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bound {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(super) shift: u32,
}

/// A run of the flat space that lies in one binding of every stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) streams: Vec<Bound>,
    /// Whether every stream can be accessed four elements at a time.
    pub(crate) aligned: bool,
}

impl Chunk {
    /// `stream` is the number, as the shaders count them, of the first of `self.streams`.
    pub(crate) fn uniform(&self, groups: &GroupTable, first: bool, stream: usize) -> ChunkUniform {
        let mut shifts = [0; MAX_STREAMS];
        for (shift, bound) in shifts[stream..].iter_mut().zip(&self.streams) {
            *shift = bound.shift;
        }
        let span = self.only_span(groups).or(groups.only_options());
        ChunkUniform {
            start: self.start as u32,
            length: self.len as u32,
            first: first.into(),
            first_item: 0,
            lr_scale: span.map_or(0.0, |span| span.lr_scale),
            weight_decay: span.map_or(0.0, |span| span.weight_decay),
            tensor: span.and_then(|span| span.tensor).unwrap_or_default(),
            blocks: groups.first_block(),
            shifts,
        }
    }

    /// Which form of a kernel the chunk takes.
    pub(crate) fn form(&self, groups: &GroupTable) -> Form {
        let options = if self.only_span(groups).is_some() {
            Options::OneSpan
        } else if !groups.has_blocks() || !self.start.is_multiple_of(LIVE_BLOCK.into()) {
            Options::Spans
        } else if groups.only_options().is_some() {
            Options::Padded
        } else {
            Options::Blocks
        };
        let shifted = self.streams.iter().any(|bound| bound.shift != 0);
        Form { aligned: self.aligned, shifted, options, group_lrs: groups.lr_fours() }
    }

    fn only_span<'a>(&self, groups: &'a GroupTable) -> Option<&'a GroupSpan> {
        groups.only_span(self.start as u32, (self.start + self.len) as u32)
    }

    /// Binds `start..start + len`, which lies in `pieces[i]` of each stream.
    fn new(start: u64, len: u64, pieces: &[&Piece], limits: &PlanLimits) -> Self {
        let byte_range = |piece: &Piece| {
            let offset = piece.offset + (start - piece.start) * 4;
            (offset - offset % limits.alignment, offset + len * 4)
        };
        let aligned = pieces.iter().all(|piece| {
            let (offset, end) = byte_range(piece);
            (end - len * 4).is_multiple_of(16) && offset + (end - offset).next_multiple_of(16) <= piece.buffer.size()
        });
        let streams = pieces.iter().map(|piece| {
            let (offset, end) = byte_range(piece);
            let size = end - offset;
            Bound {
                buffer: piece.buffer.clone(),
                offset,
                size: if aligned { size.next_multiple_of(16) } else { size },
                shift: ((size - len * 4) / 4) as u32,
            }
        });
        Self { start, len, streams: streams.collect(), aligned }
    }
}

/// Adds `start..end`: as one chunk if it can be accessed four elements at a time, or is small; else as a chunk that
/// ends at `body_end`, and one for the tail.
fn push(chunks: &mut Vec<Chunk>, (start, end): (u64, u64), body_end: u64, pieces: &[&Piece], limits: &PlanLimits) {
    let chunk = Chunk::new(start, end - start, pieces, limits);
    let body = Chunk::new(start, body_end.saturating_sub(start), pieces, limits);
    if chunk.aligned || !body.aligned || body.len < WORTH_A_TAIL {
        chunks.push(chunk);
        return;
    }
    let tail = Chunk::new(start + body.len, chunk.len - body.len, pieces, limits);
    chunks.extend([body, tail]);
}

/// Cuts the flat space where any stream changes its buffer, and where the device's limits ask for it.
/// Every stream covers the same elements. With `whole_items`, tails too are cut where items of tensors end.
pub(crate) fn chunks(streams: &[&[Piece]], limits: &PlanLimits, whole_items: bool) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut at = vec![0; streams.len()];
    let mut start = 0;
    loop {
        for (at, pieces) in at.iter_mut().zip(streams) {
            while pieces.get(*at).is_some_and(|piece| piece.end() <= start) {
                *at += 1;
            }
        }
        let pieces: Option<Vec<&Piece>> = at.iter().zip(streams).map(|(&at, pieces)| pieces.get(at)).collect();
        let Some(pieces) = pieces else { return chunks };
        let end = pieces.iter().map(|piece| piece.end()).min().unwrap_or(start);
        let end = end.min((start + limits.max_elements()) / BLOCK * BLOCK);
        let body_end = if whole_items { end / BLOCK * BLOCK } else { start + (end - start) / 4 * 4 };
        push(&mut chunks, (start, end), body_end, &pieces, limits);
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

/// How the norm pass reads the gradients: whole blocks where they lie, and blocks that are cut between buffers
/// from scratch buffers into which they are first copied, so that their sums have the same bits.
#[derive(Debug, Default)]
pub(crate) struct NormPlan {
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) copies: Vec<ScratchCopy>,
}

impl NormPlan {
    /// `make_scratch` makes a buffer of so many bytes.
    pub(crate) fn new(
        grads: &[Piece],
        len: u64,
        limits: &PlanLimits,
        mut make_scratch: impl FnMut(u64) -> wgpu::Buffer,
    ) -> Self {
        let mut plan = Self::default();
        let mut at = 0;
        let mut start = 0;
        while start < len {
            while grads[at].end() <= start {
                at += 1;
            }
            let whole_end = whole_blocks_end(&grads[at], len);
            if whole_end > start {
                let end = whole_end.min(start + limits.max_elements());
                push(&mut plan.chunks, (start, end), end / BLOCK * BLOCK, &[&grads[at]], limits);
                start = end;
                continue;
            }
            // Blocks that are cut one after the other share a scratch buffer.
            let most = len.min(start + limits.max_elements());
            let mut end = (start + BLOCK).min(most);
            let is_cut = |block| {
                let mut pieces = grads[at..].iter().take_while(|piece| piece.start <= block);
                pieces.all(|piece| whole_blocks_end(piece, len) <= block)
            };
            while end < most && is_cut(end) {
                end = (end + BLOCK).min(most);
            }
            let scratch = make_scratch(((end - start) * 4).next_multiple_of(16));
            for piece in grads[at..].iter().take_while(|piece| piece.start < end) {
                let from = piece.start.max(start);
                plan.copies.push(ScratchCopy {
                    source: piece.buffer.clone(),
                    source_offset: piece.offset + (from - piece.start) * 4,
                    target: scratch.clone(),
                    target_offset: (from - start) * 4,
                    size: (piece.end().min(end) - from) * 4,
                });
            }
            let scratch = Piece { buffer: scratch, offset: 0, start, len: end - start };
            plan.chunks.push(Chunk::new(start, end - start, &[&scratch], limits));
            start = end;
        }
        plan
    }
}

/// Where the last norm block that lies in `piece` as a whole ends.
fn whole_blocks_end(piece: &Piece, len: u64) -> u64 {
    if piece.end() == len { len } else { piece.end() / BLOCK * BLOCK }
}

/// Norm blocks of a flat space, at least one.
pub(crate) fn norm_blocks(len: u64) -> u64 {
    len.div_ceil(BLOCK).max(1)
}
