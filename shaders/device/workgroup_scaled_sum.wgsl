// Sums one ScaledSum per lane over the workgroup, in a fixed order.

import kernel::{LANES};
import package::kernels::scaled_sum::{ScaledSum, combine};

var<workgroup> lane_sums: array<ScaledSum, LANES>;

// Reduces the sums of the first `before` lanes to the first `after`: lane i adds lanes i + after, i + 2 * after, ...
fn reduce_to(own: ScaledSum, lane: u32, before: u32, after: u32) -> ScaledSum {
    // equivalent(<=): no lane reads the entry past the end
    if lane < before {
        lane_sums[lane] = own;
    }
    workgroupBarrier();
    var sum = own;
    // equivalent(lane <= after): no lane reads the entry past the end
    for (var other = select(before, lane + after, lane < after); other < before; other += after) {
        sum = combine(sum, lane_sums[other]);
    }
    return sum;
}

// The result is valid in lane 0. Uses two or three stages instead of one per power of two, because CPU drivers run
// every lane through every stage.
fn workgroup_sum(own: ScaledSum, lane: u32) -> ScaledSum {
    let sums = reduce_to(own, lane, LANES, LANES / 8u);
    let total = reduce_to(sums, lane, LANES / 8u, LANES / 64u);
    if LANES == 64u {
        return total;
    }
    return reduce_to(total, lane, LANES / 64u, 1u);
}
