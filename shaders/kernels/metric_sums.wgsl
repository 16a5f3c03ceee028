// The metric table: sums over the segments of one sampled step, from which the host computes the metrics.

import package::device::workgroup_sum::{workgroup_sum};

// Row 0: counts of segments and of parts. Row 1: count of executed steps at the last sampled step. Then two rows of
// sums per segment. Then one row per segment with the range of its parts. Then three rows per part: first element, end
// and segment; two rows of sums.
@group(0) @binding(18) var<storage, read_write> metric_table: array<vec4<u32>>;

fn metric_sums_row(segment: u32) -> u32 {
    return 2u + 2u * segment;
}

fn metric_parts_row(segment: u32) -> u32 {
    return 2u + 2u * metric_table[0].x + segment;
}

fn metric_part_row(part: u32) -> u32 {
    return 2u + 3u * metric_table[0].x + 3u * part;
}

struct MetricSums {
    // Sums of squared gradients, parameters and updates; count of clipped elements.
    squares: vec4<f32>,
    // x: count of elements for which the rule's metric holds. y: count of updates that rounding loses.
    counts: vec4<f32>,
}

fn metric_sums_at(row: u32) -> MetricSums {
    return MetricSums(bitcast<vec4<f32>>(metric_table[row]), bitcast<vec4<f32>>(metric_table[row + 1u]));
}

// Sums over the workgroup; lane 0 stores them if `exists`.
fn store_metric_sums(row: u32, sums: MetricSums, lane: u32, exists: bool) {
    let squares = workgroup_sum(sums.squares, lane);
    // undetected(delete): lavapipe runs the lanes in order on one thread, so the race has no effect
    workgroupBarrier();
    let counts = workgroup_sum(sums.counts, lane);
    if exists && lane == 0u {
        metric_table[row] = bitcast<vec4<u32>>(squares);
        metric_table[row + 1u] = bitcast<vec4<u32>>(counts);
    }
}
