//! The dispatches that bring factors forward.

use bytemuck::{Pod, Zeroable};
use wgpu::BindGroupEntry;

use super::chunking::{Chunk, PlanLimits};
use super::pipelines::{Kernel, Pipelines, WORKGROUP};
use super::prepared_step::{self, Dispatch, Shared, bind_group, bound, chunk_entry, uniform_buffer};
use super::shader::{FACTORS_BINDING, GRAD_STREAM, STREAM_BINDING};
use crate::factors::Factors;

/// Twin of the struct of the same name in `shaders/lines.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct LinesChunk {
    start: u32,
    end: u32,
    first_piece: u32,
    end_piece: u32,
    shift: u32,
    padding: [u32; 3],
}

/// The pieces of lines in each chunk, then the lines, then the means of the rows.
pub(super) fn dispatches(
    device: &wgpu::Device,
    pipelines: &mut Pipelines,
    shared: &Shared,
    factors: &Factors,
    chunks: &[Chunk],
    limits: &PlanLimits,
) -> Vec<Dispatch> {
    let uniforms = chunks.iter().map(|chunk| {
        let pieces = factors.pieces_in(chunk.start..chunk.start + chunk.len);
        LinesChunk {
            start: chunk.start as u32,
            end: (chunk.start + chunk.len) as u32,
            first_piece: pieces.start as u32,
            end_piece: pieces.end as u32,
            shift: chunk.streams[GRAD_STREAM].shift,
            padding: [0; 3],
        }
    });
    let uniforms: Vec<LinesChunk> = uniforms.collect();
    let buffer = uniform_buffer(device, &uniforms);
    let lanes = u64::from(WORKGROUP);
    let mut dispatches = Vec::new();
    for (i, (chunk, uniform)) in chunks.iter().zip(&uniforms).enumerate() {
        let gradients = &chunk.streams[GRAD_STREAM];
        let entries = [
            chunk_entry::<LinesChunk>(&buffer, i),
            prepared_step::control_entry(shared),
            BindGroupEntry { binding: 2, resource: shared.groups.as_entire_binding() },
            BindGroupEntry {
                binding: STREAM_BINDING + GRAD_STREAM as u32,
                resource: bound(&gradients.buffer, gradients.offset, gradients.size),
            },
        ];
        let pieces = u64::from(uniform.end_piece - uniform.first_piece);
        let grid = limits.capped_grid(pieces.div_ceil(lanes));
        dispatches.push(dispatch(device, pipelines, shared, Kernel::Lines, &entries, grid));
    }
    let control = [prepared_step::control_entry(shared)];
    let grid = limits.capped_grid((factors.values() as u64).div_ceil(lanes));
    dispatches.push(dispatch(device, pipelines, shared, Kernel::SettleLines, &control, grid));
    let grid = limits.grid(factors.matrices as u64);
    dispatches.push(dispatch(device, pipelines, shared, Kernel::MeanRows, &control, grid));
    dispatches
}

fn dispatch(
    device: &wgpu::Device,
    pipelines: &mut Pipelines,
    shared: &Shared,
    kernel: Kernel,
    entries: &[BindGroupEntry<'_>],
    grid: [u32; 2],
) -> Dispatch {
    pipelines.prepare(device, kernel);
    let entries: Vec<_> = entries.iter().cloned().chain(entry(shared)).collect();
    let bind_group = bind_group(device, pipelines, kernel, &entries);
    Dispatch { kernel, bind_group, grid }
}

/// The table, for rules that are factored.
pub(super) fn entry(shared: &Shared) -> Option<BindGroupEntry<'_>> {
    let buffer = shared.factors.as_ref()?;
    Some(BindGroupEntry { binding: FACTORS_BINDING, resource: buffer.as_entire_binding() })
}
