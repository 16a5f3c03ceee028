//! Buffers in which a flat space lies.

use std::ops::Range;

use wgpu_optim::wgpu::{self, Buffer, BufferUsages, CommandEncoder, Device};
use wgpu_optim::{BufferSlices, Dtype, Layout};

use crate::case::Place;

/// Fills what lies outside of the slices: a NaN of its own bits.
const CANARY: u32 = 0x7fc0_dead;

/// Elements of the flat space at a byte of a buffer.
#[derive(Debug, Clone)]
struct Piece {
    elements: Range<usize>,
    buffer: usize,
    offset: usize,
}

/// A place with its buffers.
#[derive(Debug)]
pub struct Placed {
    buffers: Vec<Buffer>,
    /// Buffer, first byte and end of each slice.
    slices: Vec<(usize, Range<u64>)>,
    place: Place,
    dtype: Dtype,
    pieces: Vec<Piece>,
}

impl Placed {
    pub fn new(device: &Device, place: &Place, layout: &Layout, dtype: Dtype) -> Self {
        let whole = || std::iter::once(0..layout.len()).collect();
        let (spaces, ahead, one_buffer): (Vec<_>, _, _) = match place {
            Place::Whole | Place::Rounded => (whole(), 0, false),
            Place::Slice { ahead } => (whole(), *ahead, false),
            Place::Cut { at, ahead, one_buffer } => {
                let mut at: Vec<usize> = at.iter().map(|&at| at.min(layout.len())).collect();
                at.sort_unstable();
                let ends = at.into_iter().chain([layout.len()]);
                let space = |start: &mut usize, end: usize| Some(std::mem::replace(start, end)..end);
                (ends.scan(0, space).collect(), *ahead, *one_buffer)
            }
            Place::Tensors { ahead, one_buffer } => {
                (layout.tensors().iter().map(wgpu_optim::TensorInfo::range).collect(), *ahead, *one_buffer)
            }
        };
        let mut sizes: Vec<u64> = Vec::new();
        let (mut slices, mut pieces) = (Vec::new(), Vec::new());
        for elements in spaces {
            if sizes.is_empty() || !one_buffer {
                sizes.push(0);
            }
            let buffer = sizes.len() - 1;
            let start = sizes[buffer] + 4 * ahead;
            let end = start + dtype.bytes(elements.len() as u64);
            sizes[buffer] = end.next_multiple_of(4);
            slices.push((buffer, start..end));
            pieces.push(Piece { elements, buffer, offset: start as usize });
        }
        let size = |size: u64| match place {
            Place::Whole => size,
            Place::Rounded => size.next_multiple_of(16),
            // A slice ends before its buffer.
            _ => size + 4 * ahead,
        };
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let new = |size| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let buffers = sizes.into_iter().map(|bytes| new(size(bytes))).collect();
        Self { buffers, slices, place: place.clone(), dtype, pieces }
    }

    /// Calls `f` with the slices.
    pub fn with<T>(&self, f: impl FnOnce(BufferSlices<'_>) -> T) -> T {
        let slice = |(buffer, bytes): &(usize, Range<u64>)| self.buffers[*buffer].slice(bytes.clone());
        match self.place {
            Place::Whole | Place::Rounded => f((&self.buffers[0]).into()),
            Place::Slice { .. } => f(slice(&self.slices[0]).into()),
            _ => f((&self.slices.iter().map(slice).collect::<Vec<_>>()).into()),
        }
    }

    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// Records writes of all elements, given as bytes.
    pub fn write(&self, device: &Device, encoder: &mut CommandEncoder, bytes: &[u8]) {
        let mut contents: Vec<Vec<u8>> = self.canaries();
        for piece in &self.pieces {
            let from = self.bytes(&piece.elements);
            contents[piece.buffer][piece.offset..piece.offset + from.len()].copy_from_slice(&bytes[from]);
        }
        for (buffer, contents) in self.buffers.iter().zip(contents) {
            upload(device, encoder, buffer, &contents);
        }
    }

    /// Records copies of all elements from another place, and fills the rest of this one.
    pub fn copy_from(&self, device: &Device, encoder: &mut CommandEncoder, from: &Self, bytes: &[u8]) {
        // Padding that the other place lacks.
        self.write(device, encoder, bytes);
        for to in &self.pieces {
            for from_piece in &from.pieces {
                let start = to.elements.start.max(from_piece.elements.start);
                let end = to.elements.end.min(from_piece.elements.end);
                if start < end {
                    let offset = |piece: &Piece| (piece.offset + 4 * (start - piece.elements.start)) as u64;
                    let (source, target) = (&from.buffers[from_piece.buffer], &self.buffers[to.buffer]);
                    let size = 4 * (end - start) as u64;
                    encoder.copy_buffer_to_buffer(source, offset(from_piece), target, offset(to), size);
                }
            }
        }
    }

    /// Reads elements from the buffers' contents into `values`. Returns a byte outside of the slices that has changed.
    pub fn read(&self, contents: &[Vec<u8>], values: &mut [f32]) -> Option<(usize, usize)> {
        let mut outside = contents.to_vec();
        for piece in &self.pieces {
            let bytes = piece.offset..piece.offset + 4 * piece.elements.len();
            let read = bytemuck::pod_collect_to_vec::<u8, f32>(&contents[piece.buffer][bytes.clone()]);
            values[piece.elements.clone()].copy_from_slice(&read);
            for at in bytes {
                outside[piece.buffer][at] = CANARY.to_le_bytes()[at % 4];
            }
        }
        let changed = |(buffer, (outside, canary)): (usize, (&Vec<u8>, Vec<u8>))| {
            outside.iter().zip(&canary).position(|(a, b)| a != b).map(|at| (buffer, at))
        };
        outside.iter().zip(self.canaries()).enumerate().find_map(changed)
    }

    fn canaries(&self) -> Vec<Vec<u8>> {
        let canary = |buffer: &Buffer| CANARY.to_le_bytes().into_iter().cycle().take(buffer.size() as usize).collect();
        self.buffers.iter().map(canary).collect()
    }

    fn bytes(&self, elements: &Range<usize>) -> Range<usize> {
        let byte = |element: usize| self.dtype.bytes(element as u64) as usize;
        byte(elements.start)..byte(elements.end)
    }
}

/// Records a write of a whole buffer.
fn upload(device: &Device, encoder: &mut CommandEncoder, buffer: &Buffer, contents: &[u8]) {
    if contents.is_empty() {
        return;
    }
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: contents.len() as u64,
        usage: BufferUsages::COPY_SRC,
        mapped_at_creation: true,
    });
    staging.get_mapped_range_mut(..).expect("a fresh buffer is mapped").copy_from_slice(contents);
    staging.unmap();
    encoder.copy_buffer_to_buffer(&staging, 0, buffer, 0, contents.len() as u64);
}
