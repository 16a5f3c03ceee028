//! Records a prepared step.

use wgpu::{BindGroup, CommandEncoder};

use super::chunking::ScratchCopy;
use super::prepared_step::PreparedStep;
use super::resources::Resources;
use super::step_uniforms::UniformEntry;
use crate::kernels::control::ControlBlock;
use crate::plan::StepKind;

/// Records the copies and dispatches of a step. `uniforms` holds bind group 1, `decide` is bind group 0 of that pass.
pub(crate) fn encode(
    encoder: &mut CommandEncoder,
    step: &PreparedStep,
    resources: &Resources,
    uniforms: &UniformEntry<'_>,
    decide: Option<&BindGroup>,
) {
    for ScratchCopy { source, source_offset, target, target_offset, size } in &step.copies {
        encoder.copy_buffer_to_buffer(source, *source_offset, target, *target_offset, *size);
    }
    let descriptor = wgpu::ComputePassDescriptor { label: Some("wgpu-optim step"), timestamp_writes: None };
    let mut pass = encoder.begin_compute_pass(&descriptor);
    let mut has_uniforms = false;
    for dispatch in &step.dispatches {
        pass.set_pipeline(&dispatch.pipeline);
        pass.set_bind_group(0, dispatch.bind_group.as_ref().or(decide), &[]);
        if dispatch.reads_uniforms && !has_uniforms {
            pass.set_bind_group(1, uniforms.bind_group, &uniforms.offsets);
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
