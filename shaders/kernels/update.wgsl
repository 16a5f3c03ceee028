// Updates all elements, unless `decide` has skipped the step.
//
// In: parameters, states, gradients, the control block. Out: parameters and states. Grid: one workgroup of 64 per
// 1,024 elements of the chunk.

import package::device::control_uniform::{control};
import package::device::multiply_twice::{zero_of_applied};
import package::kernels::control::{has_initial_states};
import package::kernels::update_elements::{StepContext};
import element_updates::{update_elements};
import interface::{unpack_scalar_state};
import step_uniforms::{uniforms};

@compute @workgroup_size(64)
fn update(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let applies = control.apply != 0u;
    let scalar_state = unpack_scalar_state(control.scalar_state);
    let context = StepContext(
        applies,
        control.grad_factors,
        zero_of_applied(),
        control.step,
        has_initial_states(control.step, 1u, uniforms.head.flags),
        control.bias_correction,
        scalar_state,
    );
    _ = update_elements(workgroup, grid, lane, context);
}
