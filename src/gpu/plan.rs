use bytemuck::{Pod, Zeroable};

use super::flat::Piece;
use crate::cpu::NORM_BLOCK;

/// Elements per norm partial.
const BLOCK: u64 = NORM_BLOCK as u64;
/// Largest chunk: its byte count and a grid's overhang stay within u32 element indices.
const MAX_CHUNK: u64 = 1 << 30;
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
        let elements = ((self.binding - self.alignment - 16) / 4).min(MAX_CHUNK);
        elements / BLOCK * BLOCK
    }

    /// A grid of at least `workgroups`, with fewer than one row to spare.
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
    shifts: [u32; MAX_STREAMS],
}

/// Where a chunk lies in one stream's buffers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bound {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    shift: u32,
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
    pub(crate) fn uniform(&self, first: bool, stream: usize) -> ChunkUniform {
        let mut shifts = [0; MAX_STREAMS];
        for (shift, bound) in shifts[stream..].iter_mut().zip(&self.streams) {
            *shift = bound.shift;
        }
        ChunkUniform { start: self.start as u32, length: self.len as u32, first: first.into(), first_item: 0, shifts }
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

/// Cuts the flat space where any stream changes its buffer, and where the device's limits ask for it.
/// Every stream covers the same elements.
pub(crate) fn chunks(streams: &[&[Piece]], limits: &PlanLimits) -> Vec<Chunk> {
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
        chunks.push(Chunk::new(start, end - start, &pieces, limits));
        start = end;
    }
}

/// A copy of gradients into the scratch buffer, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScratchCopy {
    pub(crate) source: wgpu::Buffer,
    pub(crate) source_offset: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// How the norm pass reads the gradients: whole blocks where they lie, and blocks that are cut between buffers
/// from a scratch buffer into which they are first copied, so that their sums have the same bits.
#[derive(Debug)]
pub(crate) struct NormPlan {
    /// Runs of whole blocks: flat start, elements, index of the piece.
    pub(crate) runs: Vec<(u64, u64, usize)>,
    /// Flat start and elements of each cut block, in the order of their places in the scratch buffer.
    pub(crate) cut: Vec<(u64, u64)>,
    pub(crate) copies: Vec<ScratchCopy>,
}

impl NormPlan {
    pub(crate) fn new(grads: &[Piece], len: u64, limits: &PlanLimits) -> Self {
        let mut plan = Self { runs: Vec::new(), cut: Vec::new(), copies: Vec::new() };
        let mut at = 0;
        let mut start = 0;
        while start < len {
            while grads[at].end() <= start {
                at += 1;
            }
            let piece_end = grads[at].end();
            let whole_end = if piece_end == len { len } else { piece_end / BLOCK * BLOCK };
            if whole_end > start {
                let end = whole_end.min(start + limits.max_elements());
                plan.runs.push((start, end - start, at));
                start = end;
                continue;
            }
            let end = (start + BLOCK).min(len);
            let scratch = plan.cut.len() as u64 * BLOCK * 4;
            for piece in grads[at..].iter().take_while(|piece| piece.start < end) {
                let from = piece.start.max(start);
                plan.copies.push(ScratchCopy {
                    source: piece.buffer.clone(),
                    source_offset: piece.offset + (from - piece.start) * 4,
                    offset: scratch + (from - start) * 4,
                    size: (piece.end().min(end) - from) * 4,
                });
            }
            plan.cut.push((start, end - start));
            start = end;
        }
        plan
    }

    /// Bytes of the scratch buffer.
    pub(crate) fn scratch_size(&self) -> u64 {
        self.cut.len() as u64 * BLOCK * 4
    }

    /// The chunks to dispatch; `scratch` is there if any block is cut.
    pub(crate) fn chunks(&self, grads: &[Piece], scratch: Option<&wgpu::Buffer>, limits: &PlanLimits) -> Vec<Chunk> {
        let run = |&(start, len, piece): &(u64, u64, usize)| Chunk::new(start, len, &[&grads[piece]], limits);
        let cut = |(i, &(start, len)): (usize, &(u64, u64))| {
            let piece = Piece { buffer: scratch?.clone(), offset: i as u64 * BLOCK * 4, start, len };
            Some(Chunk::new(start, len, &[&piece], limits))
        };
        self.runs.iter().map(run).chain(self.cut.iter().enumerate().filter_map(cut)).collect()
    }
}

/// Norm blocks of a flat space, at least one.
pub(crate) fn norm_blocks(len: u64) -> u64 {
    len.div_ceil(BLOCK).max(1)
}
