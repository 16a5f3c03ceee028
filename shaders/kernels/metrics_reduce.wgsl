// Metrics of a sampled step, first half: sums over each part. Runs immediately before `update`; writes no parameter and
// no state.
//
// In: parameters, states, gradients. Out: the parts' rows of the metric table. Grid: one workgroup of 256 per part.

import package::kernels::metric_sums::{MetricSums, metric_part_row, metric_table, store_metric_sums};
import package::kernels::part_sums::{Quad, counted, sum_part, sums_of};
import clip_segment::{clip_by_segment, is_clipped_by_segment};
import clip_value::{clip_by_value, is_clipped_by_value};
import metric::{metric};
import rule::{rule};
import step_uniforms::{uniforms};
import stored_param::{stored_bits};

struct LaneSums {
    // Columns: sums of squared gradients, parameters and updates; counts of clipped elements.
    squares: mat4x4<f32>,
    counts: vec4<f32>,
    // Counts of updates that rounding loses.
    lost: vec4<f32>,
}

fn part_at(number: u32) -> vec4<u32> {
    return metric_table[metric_part_row(number)];
}

fn part_count() -> u32 {
    return metric_table[0].y;
}

fn add_quad(old: LaneSums, quad: Quad) -> LaneSums {
    let grad = clip_by_segment(clip_by_value(quad.grad), uniforms.hyper, quad.step);
    let param = quad.old.param;
    let updated = rule(quad.old, grad, uniforms.hyper, quad.step).param;
    let change = updated - param;
    let is_update = (bitcast<vec4<u32>>(updated) != bitcast<vec4<u32>>(param)) | (quad.grad != vec4<f32>(0.0));
    let is_lost = is_update & (stored_bits(updated) == bitcast<vec4<u32>>(param));
    let is_clipped = is_clipped_by_value(quad.grad) | is_clipped_by_segment(uniforms.hyper, quad.step);
    let counts = vec4<f32>(metric(quad.old, grad, uniforms.hyper, quad.step));
    var squares = old.squares;
    squares[0] = squares[0] + counted(quad, quad.grad * quad.grad);
    squares[1] = squares[1] + counted(quad, param * param);
    squares[2] = squares[2] + counted(quad, change * change);
    squares[3] = squares[3] + counted(quad, vec4<f32>(is_clipped));
    return LaneSums(
        squares,
        old.counts + counted(quad, counts),
        old.lost + counted(quad, vec4<f32>(is_lost)),
    );
}

fn store_part(number: u32, sums: LaneSums, lane: u32, exists: bool) {
    let counts = (sums.counts.x + sums.counts.y) + (sums.counts.z + sums.counts.w);
    let lost = (sums.lost.x + sums.lost.y) + (sums.lost.z + sums.lost.w);
    let metric_sums = MetricSums(sums_of(sums.squares), vec4<f32>(counts, lost, 0.0, 0.0));
    store_metric_sums(metric_part_row(number) + 1u, metric_sums, lane, exists);
}

@compute @workgroup_size(256)
fn metrics_reduce(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    sum_part(workgroup, grid, lane);
}
