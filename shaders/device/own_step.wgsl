// Reads the step of the tensor that four elements belong to.

import package::kernels::control::{has_initial_states};
import applied_lanes::{FIRST_STEP};
import interface::{ScalarState, unpack_scalar_state};
import step_uniforms::{uniforms};
import tensor_step_table::{tensor_step_table};

struct OwnStep {
    bias_correction: vec4<f32>,
    t: u32,
    is_first: bool,
    scalar_state: ScalarState,
}

// The step of the active elements, which belong to one tensor.
fn own_step(of_all: OwnStep, segment: vec4<u32>, is_active: vec4<bool>) -> OwnStep {
    let numbers = select(vec4<u32>(0u), segment, is_active);
    let step = tensor_step_table[max(max(numbers.x, numbers.y), max(numbers.z, numbers.w))];
    return OwnStep(
        step.bias_correction,
        step.t,
        has_initial_states(step.t, FIRST_STEP, uniforms.head.flags),
        unpack_scalar_state(step.scalar_state),
    );
}
