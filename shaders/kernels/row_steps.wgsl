// Counts the applied steps of each active row, and computes its bias corrections.
//
// In and out: the row table. Grid: one lane per row.

import package::device::control_uniform::{control};
import package::kernels::bias_correction::{bias_correction};
import package::rows::{ROWS, STEPS, is_row_active};
import row_table::{row_table};

fn count_step(row: u32) {
    let steps = row_table[STEPS] + row;
    let t = row_table[steps] + 1u;
    row_table[steps] = t;
    let correction = bitcast<vec4<u32>>(bias_correction(t));
    let first = row_table[STEPS] + row_table[ROWS] + 4u * row;
    row_table[first] = correction.x;
    row_table[first + 1u] = correction.y;
    row_table[first + 2u] = correction.z;
    row_table[first + 3u] = correction.w;
}

@compute @workgroup_size(256)
fn row_steps(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (workgroup.y * grid.x + workgroup.x) * 256u + lane;
    let end = select(0u, row_table[ROWS], control.apply != 0u);
    for (var row = first; row < end; row += grid.x * grid.y * 256u) {
        if is_row_active(row) {
            count_step(row);
        }
    }
}
