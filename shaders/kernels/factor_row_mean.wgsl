// Computes the mean of the row factors of each matrix.
//
// In and out: the factor table. Grid: one workgroup of 256 per matrix.

import package::device::control_uniform::{control};
import package::device::workgroup_sum::{workgroup_sum};
import package::factors::{AXIS, FIRST_MATRIX, LEN, MATRICES, MEANS, factor, find_axis};
import factor_table::{factors};
import rule::{floor_mean};
import step_uniforms::{uniforms};

@compute @workgroup_size(256)
fn factor_row_mean(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let matrix = workgroup.y * grid.x + workgroup.x;
    // The grid may have more workgroups than there are matrices.
    // equivalent(boundary): the next step overwrites the first partial, which follows the means
    let exists = (control.apply != 0u) & (matrix < factors[MATRICES]);
    // Finds the axis of columns, the second of the tensor's two axes. The length of a column is the number of rows.
    let columns = find_axis(matrix, FIRST_MATRIX);
    let len = factors[columns + LEN];
    let first_row = (matrix - factors[columns + FIRST_MATRIX]) * len;
    var sum = 0.0;
    if exists {
        for (var row = lane; row < len; row += 256u) {
            sum = sum + factor(columns - AXIS, first_row + row);
        }
    }
    let total = workgroup_sum(vec4<f32>(sum), lane).x;
    if exists && lane == 0u {
        factors[factors[MEANS] + matrix] = bitcast<u32>(floor_mean(total / f32(len), uniforms.hyper));
    }
}
