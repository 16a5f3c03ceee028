// The rule's sums over segments, first half: sums over each part.
//
// In: parameters, states, gradients. Out: the parts' rows of the segment table. Grid: one workgroup of 256 per part.

import package::device::workgroup_sum::{workgroup_sum};
import package::kernels::part_sums::{Quad, counted, sum_part, sums_of};
import package::segments::{part_row};
import clip_value::{clip_by_value};
import interface::{SegmentSums, pack_segment_sums};
import reduction::{terms};
import segment_table::{segments};
import step_uniforms::{uniforms};

struct LaneSums {
    sums: mat4x4<f32>,
}

fn part_at(number: u32) -> vec4<u32> {
    return segments[part_row(number)];
}

fn part_count() -> u32 {
    return segments[0].y;
}

fn add_quad(old: LaneSums, quad: Quad) -> LaneSums {
    var step = quad.step;
    // The table still contains the sums of the previous step.
    step.sums = SegmentSums();
    let columns = pack_segment_sums(terms(quad.old, clip_by_value(quad.grad), uniforms.hyper, step));
    var sums = old.sums;
    sums[0] = sums[0] + counted(quad, columns[0]);
    sums[1] = sums[1] + counted(quad, columns[1]);
    sums[2] = sums[2] + counted(quad, columns[2]);
    sums[3] = sums[3] + counted(quad, columns[3]);
    return LaneSums(sums);
}

fn store_part(number: u32, sums: LaneSums, lane: u32, exists: bool) {
    let total = workgroup_sum(sums_of(sums.sums), lane);
    if exists && lane == 0u {
        segments[part_row(number) + 1u] = bitcast<vec4<u32>>(total);
    }
}

@compute @workgroup_size(256)
fn segment_reduce(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    sum_part(workgroup, grid, lane);
}
