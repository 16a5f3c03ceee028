// The mean of the factors of each matrix's rows. One workgroup per matrix. Twin: src/cpu/factors.rs.
//
// Composed in src/gpu/shader.rs; the rule's part is `fn floor_mean(mean: f32, hyper: Hyper) -> f32`.

@group(0) @binding(1) var<uniform> control: Control;

@compute @workgroup_size(256)
fn mean_rows(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let matrix = workgroup.y * grid.x + workgroup.x;
    // The grid may overhang.
    // equivalent(boundary): behind the means is a sum that the next step makes anew
    let exists = (control.apply != 0u) & (matrix < factors[MATRICES]);
    // Of the axes of a tensor, both of which have its first matrix, the columns: their length is the number of rows.
    let columns = find_axis(matrix, FIRST_MATRIX);
    let len = factors[columns + LEN];
    let first_row = (matrix - factors[columns + FIRST_MATRIX]) * len;
    var sum = 0.0;
    if exists {
        for (var row = lane; row < len; row += 256u) {
            sum = sum + factor(columns - AXIS, first_row + row);
        }
    }
    let total = reduce(vec4<f32>(sum), lane).x;
    if exists && lane == 0u {
        factors[factors[MEANS] + matrix] = bitcast<u32>(floor_mean(total / f32(len), slot.hyper));
    }
}
