// Metrics of a sampled step, second half: sums the parts of each segment.
//
// In and out: the metric table. Grid: one workgroup of 256 per segment.

import package::device::control_uniform::{control};
import package::kernels::metric_sums::{
    MetricSums,
    metric_part_row,
    metric_parts_row,
    metric_sums_at,
    metric_sums_row,
    metric_table,
    store_metric_sums,
};

@compute @workgroup_size(256)
fn metrics_total(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let segment = workgroup.y * grid.x + workgroup.x;
    // The grid may have more workgroups than there are segments.
    let exists = (control.apply != 0u) & (segment < metric_table[0].x);
    var sums = MetricSums();
    if exists {
        let parts = metric_table[metric_parts_row(segment)];
        // undetected(boundary): the next part belongs to another segment; past the end lavapipe reads zeros
        for (var part = parts.x + lane; part < parts.y; part += 256u) {
            // The range may contain parts of other segments.
            let is_own = metric_table[metric_part_row(part)].z == segment;
            let of_part = metric_sums_at(metric_part_row(part) + 1u);
            sums.squares = sums.squares + select(vec4<f32>(0.0), of_part.squares, is_own);
            sums.counts = sums.counts + select(vec4<f32>(0.0), of_part.counts, is_own);
        }
    }
    store_metric_sums(metric_sums_row(segment), sums, lane, exists);
    // equivalent: all lanes write the same
    let is_first = lane == 0u;
    // equivalent(& is_first): all lanes write the same
    if exists & (segment == 0u) & is_first {
        metric_table[1] = vec4<u32>(control.step + control.skipped, 0u, 0u, 0u);
    }
}
