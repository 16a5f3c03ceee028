// The table of metric sums: what a sampled step did, summed over segments.

import package::device::workgroup_sum::{workgroup_sum};

// Row 0: numbers of segments and of parts. Row 1: number of executed steps at the last sampled one. Then two rows per
// segment of its sums, and one of the range of its parts. Then three rows per part: first element, end and segment; and
// its sums.
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
    // Squares of gradients, parameters and updates; number of clipped elements.
    squares: vec4<f32>,
    // x: number of elements for which the rule's metric holds.
    counts: vec4<f32>,
}

fn metric_sums_at(row: u32) -> MetricSums {
    return MetricSums(bitcast<vec4<f32>>(metric_table[row]), bitcast<vec4<f32>>(metric_table[row + 1u]));
}

// Sums over the workgroup; lane 0 stores them if `exists`.
fn store_metric_sums(row: u32, sums: MetricSums, lane: u32, exists: bool) {
    let squares = workgroup_sum(sums.squares, lane);
    // undetected(delete): lane 0 wins the race where one thread takes the lanes in turn
    workgroupBarrier();
    let counts = workgroup_sum(sums.counts, lane);
    if exists && lane == 0u {
        metric_table[row] = bitcast<vec4<u32>>(squares);
        metric_table[row + 1u] = bitcast<vec4<u32>>(counts);
    }
}
