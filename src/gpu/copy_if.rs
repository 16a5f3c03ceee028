//! Copies that depend on a flag on the device. The host cannot know whether the encoder that stored their source was
//! submitted.

use std::sync::Arc;

use wgpu::{BindGroup, Buffer, CommandEncoder, Device};

use super::buffer_slices::BufferRange;
use super::chunking::{Chunk, ChunkLimits, ChunkUniform, UPDATE_LEN, chunks};
use super::kernel::Kernel;
use super::prepared_step::{CHUNK_STRIDE, chunk_uniforms};
use super::resources::buffer_binding;
use crate::Error;

/// Copies that happen if a flag is 1 when they execute.
pub(crate) struct CopyIf {
    kernel: Arc<Kernel>,
    dispatches: Vec<(BindGroup, [u32; 2])>,
}

impl CopyIf {
    /// Binds copies between two lists of ranges over the same flat space, for each pair of lists.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`].
    pub(crate) fn new(
        device: &Device,
        kernel: Arc<Kernel>,
        flag: &Buffer,
        lists: &[[Vec<BufferRange>; 2]],
    ) -> Result<Self, Error> {
        let limits = ChunkLimits::new(&device.limits());
        let chunks: Vec<Chunk> = lists
            .iter()
            .flat_map(|pair| {
                let [from, to] =
                    pair.each_ref().map(|ranges| ranges.iter().map(BufferRange::as_words).collect::<Vec<_>>());
                chunks(&[&from, &to], &limits, false)
            })
            .collect();
        let uniform = |chunk: &Chunk| ChunkUniform {
            length: chunk.len as u32,
            shifts: chunk.shifts(),
            ..ChunkUniform::default()
        };
        let uniforms = chunk_uniforms(device, &chunks.iter().map(uniform).collect::<Vec<_>>())?;
        let dispatch = |(i, chunk): (usize, &Chunk)| {
            let words = |stream| {
                let bound = chunk.stream(stream);
                Some(buffer_binding(&bound.buffer, bound.offset, bound.size))
            };
            let bind_group = kernel.bind_group(device, "wgpu-optim copy_if", |name| match name {
                "chunk" => Some(buffer_binding(&uniforms, i as u64 * CHUNK_STRIDE, size_of::<ChunkUniform>() as u64)),
                "flag" => Some(flag.as_entire_binding()),
                "source_words" => words(0),
                "target_words" => words(1),
                _ => None,
            });
            Ok((bind_group, limits.grid(chunk.len.div_ceil(UPDATE_LEN))?))
        };
        let dispatches = chunks.iter().enumerate().map(dispatch).collect::<Result<_, Error>>()?;
        Ok(Self { kernel, dispatches })
    }

    pub(crate) fn record(&self, encoder: &mut CommandEncoder) {
        let descriptor = wgpu::ComputePassDescriptor { label: Some("wgpu-optim copy_if"), timestamp_writes: None };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        pass.set_pipeline(&self.kernel.pipeline);
        for (bind_group, grid) in &self.dispatches {
            pass.set_bind_group(0, bind_group, &[]);
            pass.dispatch_workgroups(grid[0], grid[1], 1);
        }
    }
}
