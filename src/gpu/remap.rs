//! Rows of all streams, moved by a table of indices: bound once for a set of buffers, then recorded as often as needed.

use std::ops::Range;
use std::sync::Arc;

use wgpu::{BindGroup, BindingResource, Buffer, BufferUsages, CommandEncoder, Device};

use super::buffer_slices::{BufferRange, SliceKey, check_usage, copy_ranges};
use super::chunking::{BoundRange, Chunk, ChunkLimits, UPDATE_LEN, chunks};
use super::kernel::Kernel;
use super::limits::check_limit;
use super::prepared_step::{CHUNK_STRIDE, chunk_uniforms};
use super::resources::{buffer_binding, init_buffer, stream_ranges};
use crate::Error;
use crate::kernels::control::ControlBlock;
use crate::kernels::remap::{COPY, FILL, KEEP, RemapUniform, SCALE};
use crate::plan::{NewRows, RowStream, RowStreams};
use crate::storage::Dtype;

const FRESH_COPIES: &str = ", because a state lies in the same buffer";

/// Buffers of all remaps of an optimizer.
#[derive(Debug)]
pub(crate) struct RemapBuffers {
    /// The old values of one stream at a time.
    scratch: Vec<BufferRange>,
    /// `MovedTensors` of the WGSL; its first word is the number of live rows.
    pub(crate) row_tensors: Buffer,
    invalid_rows: Buffer,
}

impl RemapBuffers {
    /// # Errors
    /// [`Error::DeviceLimit`].
    pub(crate) fn new(device: &Device, rows: &RowStreams, longest: u64) -> Result<Self, Error> {
        let mut words = vec![0, rows.capacity as u32, 0, 0];
        words.extend_from_slice(bytemuck::cast_slice(&rows.tensors));
        for bytes in [4 * words.len() as u64, 4 * rows.capacity as u64] {
            check_limit("max_storage_buffer_binding_size", bytes, device.limits().max_storage_buffer_binding_size)?;
        }
        let written = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        Ok(Self {
            scratch: stream_ranges(device, "scratch of rows", (Dtype::F32, 0.0), longest),
            row_tensors: init_buffer(device, "wgpu-optim rows", BufferUsages::STORAGE | BufferUsages::COPY_DST, &words),
            invalid_rows: init_buffer(device, "wgpu-optim invalid rows", written, &[0]),
        })
    }
}

/// A stream and the buffers of one remap.
pub(crate) struct StreamMove<'a> {
    pub(crate) stream: &'a RowStream,
    pub(crate) old: Vec<BufferRange>,
    pub(crate) new: Vec<BufferRange>,
    /// Values of new rows, at the same places; empty unless they are read from a buffer.
    pub(crate) fresh: Vec<BufferRange>,
    pub(crate) sources: &'a Buffer,
}

#[derive(Debug)]
struct PreparedMove {
    /// From and to.
    copies: Vec<[Vec<BufferRange>; 2]>,
    dispatches: Vec<(BindGroup, [u32; 2])>,
}

/// The copies and dispatches of a remap.
#[derive(Debug)]
pub(crate) struct PreparedRemap {
    kernel: Arc<Kernel>,
    moves: Vec<PreparedMove>,
}

impl PreparedRemap {
    /// # Errors
    /// [`Error::DeviceLimit`].
    pub(crate) fn new(
        device: &Device,
        kernel: Arc<Kernel>,
        (buffers, control): (&RemapBuffers, &Buffer),
        rows: &RowStreams,
        moves: Vec<StreamMove<'_>>,
    ) -> Result<Self, Error> {
        let binder =
            Binder { device, kernel: &kernel, buffers, control, rows, limits: ChunkLimits::new(&device.limits()) };
        let moves = moves.into_iter().map(|moved| binder.prepare(moved)).collect::<Result<_, Error>>()?;
        Ok(Self { kernel, moves })
    }

    /// Records the moves, and the flag of invalid indices into both control blocks.
    pub(crate) fn record(&self, encoder: &mut CommandEncoder, buffers: &RemapBuffers, blocks: [&Buffer; 2]) {
        encoder.clear_buffer(&buffers.invalid_rows, 0, None);
        for PreparedMove { copies, dispatches } in &self.moves {
            for [from, to] in copies {
                copy_ranges(encoder, from, to);
            }
            let descriptor = wgpu::ComputePassDescriptor { label: Some("wgpu-optim remap"), timestamp_writes: None };
            let mut pass = encoder.begin_compute_pass(&descriptor);
            pass.set_pipeline(&self.kernel.pipeline);
            for (bind_group, grid) in dispatches {
                pass.set_bind_group(0, bind_group, &[]);
                pass.dispatch_workgroups(grid[0], grid[1], 1);
            }
        }
        for block in blocks {
            let offset = std::mem::offset_of!(ControlBlock, invalid_rows) as u64;
            encoder.copy_buffer_to_buffer(&buffers.invalid_rows, 0, block, offset, 4);
        }
    }
}

/// A remap over one set of buffers.
#[derive(Debug)]
pub(crate) struct KeptRemap {
    pub(crate) lists: [Vec<SliceKey<Buffer>>; 3],
    pub(crate) sources: [Option<Buffer>; 2],
    pub(crate) has_training_params: bool,
    /// Whether parameters of new rows were given, if only as an empty list.
    pub(crate) has_new_params: bool,
    pub(crate) prepared: PreparedRemap,
}

/// The remaps of an optimizer, the last used first.
#[derive(Debug)]
pub(crate) struct Remaps {
    pub(crate) rows: RowStreams,
    pub(crate) buffers: RemapBuffers,
    pub(crate) kept: Vec<KeptRemap>,
}

struct Binder<'a> {
    device: &'a Device,
    kernel: &'a Kernel,
    buffers: &'a RemapBuffers,
    control: &'a Buffer,
    rows: &'a RowStreams,
    limits: ChunkLimits,
}

impl Binder<'_> {
    /// A dispatch for each pair of chunks of target and source that may have a row in common.
    fn prepare(&self, mut moved: StreamMove<'_>) -> Result<PreparedMove, Error> {
        let mut copies = vec![[moved.old.clone(), self.buffers.scratch.clone()]];
        // No dispatch may read from a buffer that it writes: a state may lie in the buffer of the parameters.
        if moved.new.iter().any(|target| moved.fresh.iter().any(|fresh| fresh.buffer == target.buffer)) {
            for range in &moved.fresh {
                check_usage("new_params", &range.buffer, BufferUsages::COPY_SRC, FRESH_COPIES)?;
            }
            let len = moved.fresh.last().map_or(0, BufferRange::end);
            let copy = stream_ranges(self.device, "new rows", (Dtype::F32, 0.0), len);
            copies.push([std::mem::replace(&mut moved.fresh, copy.clone()), copy]);
        }
        let streams: Vec<&[BufferRange]> =
            [&moved.new[..], &moved.fresh].into_iter().filter(|ranges| !ranges.is_empty()).collect();
        let targets = chunks(&streams, &self.limits, false);
        let sources = chunks(&[&self.buffers.scratch], &self.limits, false);
        let mut pairs = Vec::new();
        for target in targets.iter().filter(|_| !moved.stream.tensors.is_empty()) {
            let rows = self.reachable(moved.stream, target);
            let sources = sources.iter().filter(|source| source.start < rows.end && rows.start < source.end());
            pairs.extend(sources.map(|source| (target, source)));
        }
        let uniforms: Vec<_> = pairs.iter().map(|pair| Self::uniform(&moved, *pair)).collect();
        let uniforms = chunk_uniforms(self.device, &uniforms)?;
        let dispatch = |(i, (target, source)): (usize, (&Chunk, &Chunk))| {
            let bind_group = self.bind(&moved, (target, source), (&uniforms, i as u64 * CHUNK_STRIDE));
            Ok((bind_group, self.limits.grid(target.len.div_ceil(UPDATE_LEN))?))
        };
        let dispatches = pairs.into_iter().enumerate().map(dispatch).collect::<Result<_, Error>>()?;
        Ok(PreparedMove { copies, dispatches })
    }

    /// The elements of all tensors that have elements in the chunk.
    fn reachable(&self, stream: &RowStream, target: &Chunk) -> Range<u64> {
        let tensors = &self.rows.tensors[stream.tensors.clone()];
        let after = |element: u64| tensors.partition_point(|tensor| u64::from(tensor.end) <= element);
        let last = tensors.len() - 1;
        let [first, end] = [target.start, target.end() - 1].map(|element| tensors[after(element).min(last)]);
        u64::from(first.start)..end.end.into()
    }

    fn uniform(moved: &StreamMove<'_>, (target, source): (&Chunk, &Chunk)) -> RemapUniform {
        let (mut initial, mut correction) = ([0; 4], 0);
        let fresh = match moved.stream.new_rows {
            NewRows::Given if moved.fresh.is_empty() => KEEP,
            NewRows::Given | NewRows::Params => COPY,
            NewRows::Initial(values) => {
                initial = values.map(f32::to_bits);
                FILL
            }
            NewRows::ScaledParams(number) => {
                correction = number as u32;
                SCALE
            }
        };
        RemapUniform {
            start: target.start as u32,
            length: target.len as u32,
            target_shift: target.shifts()[0],
            fresh_shift: target.shifts()[1],
            source_start: source.start as u32,
            source_length: source.len as u32,
            source_shift: source.shifts()[0],
            first_tensor: moved.stream.tensors.start as u32,
            tensors: moved.stream.tensors.len() as u32,
            fresh,
            correction,
            padding: 0,
            initial,
        }
    }

    fn bind(
        &self,
        moved: &StreamMove<'_>,
        (target, source): (&Chunk, &Chunk),
        (uniforms, offset): (&Buffer, u64),
    ) -> BindGroup {
        self.kernel.bind_group(self.device, "wgpu-optim remap", |name| {
            Some(match name {
                "stream" => buffer_binding(uniforms, offset, size_of::<RemapUniform>() as u64),
                "control" => buffer_binding(self.control, 0, ControlBlock::CONTROL_BYTES),
                "rows" => self.buffers.row_tensors.as_entire_binding(),
                "sources" => buffer_binding(moved.sources, 0, 4 * self.rows.capacity as u64),
                "source_words" => words(source, 0),
                "target_words" => words(target, 0),
                // A binding needs a buffer, read or not.
                "fresh_words" if moved.fresh.is_empty() => words(source, 0),
                "fresh_words" => words(target, 1),
                "invalid_rows" => self.buffers.invalid_rows.as_entire_binding(),
                _ => return None,
            })
        })
    }
}

fn words(chunk: &Chunk, stream: usize) -> BindingResource<'_> {
    let BoundRange { buffer, offset, size, .. } = chunk.stream(stream);
    buffer_binding(buffer, *offset, *size)
}
