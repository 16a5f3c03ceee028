//! Records a prepared step.

use wgpu::{BindGroup, CommandEncoder};

use super::chunking::ScratchCopy;
use super::prepared_step::PreparedStep;
use super::resources::Resources;
use crate::kernels::control::ControlBlock;
use crate::plan::{Pass, StepKind};

/// Records these passes of a step, or all, and the copies before the first of them. `uniforms` is bind group 1 with its
/// offsets, `decide` is bind group 0 of that pass.
pub(crate) fn encode(
    encoder: &mut CommandEncoder,
    (step, passes): (&PreparedStep, Option<&[Pass]>),
    resources: &Resources,
    uniforms: (&BindGroup, &[u32]),
    decide: Option<&BindGroup>,
) {
    let is_recorded = |pass: Pass| passes.is_none_or(|passes| passes.contains(&pass));
    let is_begin = step.dispatches.first().is_none_or(|first| is_recorded(first.pass));
    for ScratchCopy { source, source_offset, target, target_offset, size } in step.copies.iter().filter(|_| is_begin) {
        encoder.copy_buffer_to_buffer(source, *source_offset, target, *target_offset, *size);
    }
    let descriptor = wgpu::ComputePassDescriptor { label: Some("wgpu-optim step"), timestamp_writes: None };
    let mut pass = encoder.begin_compute_pass(&descriptor);
    let mut has_uniforms = false;
    for dispatch in step.dispatches.iter().filter(|dispatch| is_recorded(dispatch.pass)) {
        pass.set_pipeline(&dispatch.pipeline);
        pass.set_bind_group(0, dispatch.bind_group.as_ref().or(decide), &[]);
        if dispatch.reads_uniforms && !has_uniforms {
            let (bind_group, offsets) = uniforms;
            pass.set_bind_group(1, bind_group, offsets);
            has_uniforms = true;
        }
        pass.dispatch_workgroups(dispatch.grid[0], dispatch.grid[1], 1);
    }
    drop(pass);
    if step.kind == StepKind::SinglePass {
        let size = size_of::<ControlBlock>() as u64;
        encoder.copy_buffer_to_buffer(&resources.persistent.next, 0, &resources.persistent.control, 0, size);
    }
}
