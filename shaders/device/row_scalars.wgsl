// Applies the rule with the step count and the bias corrections of each element's row.

import package::kernels::control::{has_initial_states};
import package::rows::{ROWS, STEPS, quad_places};
import package::rule::step::{StepScalars};
import applied::{Applied, apply};
import applied_lanes::{FIRST_STEP, select_applied};
import interface::{Element, Hyper, TransformStates};
import row_table::{row_table};
import step_uniforms::{uniforms};

fn scalars_of_row(step: StepScalars, row: u32) -> StepScalars {
    var scalars = step;
    let first = row_table[STEPS] + row_table[ROWS] + 4u * row;
    scalars.t = row_table[row_table[STEPS] + row];
    scalars.bias_correction = bitcast<vec4<f32>>(
        vec4<u32>(row_table[first], row_table[first + 1u], row_table[first + 2u], row_table[first + 3u]),
    );
    scalars.is_first = has_initial_states(scalars.t, FIRST_STEP, uniforms.head.flags);
    return scalars;
}

// Applies the rule to the four elements at `index`: once for each row among them.
fn apply_by_row(
    old: Element,
    states: TransformStates,
    grad: vec4<f32>,
    hyper: Hyper,
    step: StepScalars,
    index: u32,
) -> Applied {
    let places = quad_places(index);
    var applied = apply(old, states, grad, hyper, scalars_of_row(step, places.x.row));
    if places.y.row != places.x.row {
        let next = apply(old, states, grad, hyper, scalars_of_row(step, places.y.row));
        applied = select_applied(applied, next, vec4<bool>(false, true, true, true));
    }
    if places.z.row != places.y.row {
        let next = apply(old, states, grad, hyper, scalars_of_row(step, places.z.row));
        applied = select_applied(applied, next, vec4<bool>(false, false, true, true));
    }
    if places.w.row != places.z.row {
        let next = apply(old, states, grad, hyper, scalars_of_row(step, places.w.row));
        applied = select_applied(applied, next, vec4<bool>(false, false, false, true));
    }
    return applied;
}
