// Applies an auxiliary update of the rule to all elements. Leaves the step counter unchanged.
//
// In: parameters, states, and the update's input instead of gradients. Out: parameters and states. Grid: one workgroup
// of 64 per 1,024 elements of the chunk.

import package::device::control_uniform::{control};
import package::kernels::control::{has_initial_states};
import package::kernels::update_elements::{StepContext};
import element_updates::{update_elements};
import interface::{unpack_scalar_state};
import step_uniforms::{uniforms};

@compute @workgroup_size(64)
fn auxiliary_update(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let scalar_state = unpack_scalar_state(control.scalar_state);
    let t = control.step;
    let is_first = has_initial_states(t, 0u, uniforms.head.flags);
    let context = StepContext(true, vec2<f32>(1.0), 0u, t, is_first, control.bias_correction, scalar_state);
    _ = update_elements(workgroup, grid, lane, context);
}
