// Sums the partials of each line and updates the line's factor.
//
// In and out: the factor table. Grid: one lane per line.

import package::device::control_uniform::{control};
import package::factors::{
    ACTIVE,
    FIRST_LINE,
    FIRST_PARTIAL,
    FIRST_VALUE,
    LEN,
    LINES,
    PARTIALS,
    PARTIALS_OF_LINE,
    START,
    STRIDE,
    VALUES,
    factor,
    find_axis,
};
import active_rows::{is_any_row_active};
import factor_table::{factors};
import interface::{unpack_scalar_state};
import rule::{update_factor};
import step_uniforms::{uniforms};

// Number of consecutive partials that are summed before their sum is added to the total: limits rounding error.
const RUN_LEN: u32 = 64u;

// Whether a line is part of an active row, or of several rows.
fn is_line_active(axis: u32, line: u32) -> bool {
    let stride = factors[axis + STRIDE];
    let len = factors[axis + LEN];
    // equivalent(+ START): START is word 0
    let first = factors[axis + START] + line / stride * (stride * len) + line % stride;
    return is_any_row_active(first, first + (len - 1u) * stride);
}

fn update_line(number: u32) {
    let axis = find_axis(number, FIRST_LINE);
    if factors[axis + ACTIVE] == 0u {
        return;
    }
    let line = number - factors[axis + FIRST_LINE];
    let stride = factors[axis + STRIDE];
    let partials_of_line = factors[axis + PARTIALS_OF_LINE];
    let first_partial = factors[axis + FIRST_PARTIAL] + line / stride * (stride * partials_of_line) + line % stride;
    var total = 0.0;
    var run = 0.0;
    for (var i = 0u; i < partials_of_line; i++) {
        run = run + bitcast<f32>(factors[factors[PARTIALS] + first_partial + i * stride]);
        if i % RUN_LEN == RUN_LEN - 1u {
            total = total + run;
            run = 0.0;
        }
    }
    total = total + run;
    if !is_line_active(axis, line) {
        return;
    }
    let mean_sq = total / f32(factors[axis + LEN]);
    let scalar_state = unpack_scalar_state(control.scalar_state);
    let updated = update_factor(factor(axis, line), mean_sq, uniforms.hyper, scalar_state, control.step);
    factors[factors[VALUES] + factors[axis + FIRST_VALUE] + line] = bitcast<u32>(updated);
}

@compute @workgroup_size(256)
fn factor_update(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (workgroup.y * grid.x + workgroup.x) * 256u + lane;
    let end = select(0u, factors[LINES], control.apply != 0u);
    for (var line = first; line < end; line += grid.x * grid.y * 256u) {
        update_line(line);
    }
}
