// Counts the applied steps of each tensor that has a gradient, and updates its bias corrections and scalar state.
//
// In: the control block, the tensors with a gradient. Out: the table of tensor steps, and the count of tensors without a
// gradient in the control block. Grid: one workgroup of 64 per 64 tensors with a gradient, at least one.

import package::kernels::bias_correction::{bias_correction};
import package::kernels::control::{ControlBlock};
import interface::{pack_scalar_state, unpack_scalar_state};
import scalar_state::{update_scalars};
import step_uniforms::{uniforms};
import tensor_step_table::{TensorStep, tensor_step_table};

@group(0) @binding(0) var<storage, read_write> block: ControlBlock;
// Count of tensors without a gradient, count of those with one, their numbers.
@group(0) @binding(2) var<storage, read> present_tensors: array<u32>;

@compute @workgroup_size(64)
fn tensor_steps(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = (workgroup.y * grid.x + workgroup.x) * 64u + lane;
    // equivalent(drop): all would write the same
    if number == 0u {
        block.missing_gradients = present_tensors[0];
    }
    // The grid may have more lanes than there are tensors.
    if (block.control.apply == 0u) | (number >= present_tensors[1]) {
        return;
    }
    let tensor = present_tensors[2u + number];
    let old = tensor_step_table[tensor];
    let t = old.t + 1u;
    let correction = bias_correction(t);
    let scalars = unpack_scalar_state(old.scalar_state);
    let scalar_state = update_scalars(scalars, uniforms.head.lr, uniforms.hyper, correction, t);
    tensor_step_table[tensor] = TensorStep(correction, pack_scalar_state(scalar_state), t, 0u, 0u, 0u);
}
