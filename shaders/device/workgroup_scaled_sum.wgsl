// The sum of one ScaledSum per lane over a workgroup, in a fixed order.

import kernel::{LANES};
import package::kernels::scaled_sum::{ScaledSum, combine};

var<workgroup> lane_sums: array<ScaledSum, LANES>;

// Adds the sums of the first `before` lanes into the first `after`; each takes the lanes `after` apart.
fn reduce_to(own: ScaledSum, lane: u32, before: u32, after: u32) -> ScaledSum {
    // equivalent(<=): nothing reads the entry behind
    if lane < before {
        lane_sums[lane] = own;
    }
    workgroupBarrier();
    var sum = own;
    // equivalent(<=): nothing reads the entry behind
    for (var other = select(before, lane + after, lane < after); other < before; other += after) {
        sum = combine(sum, lane_sums[other]);
    }
    return sum;
}

// Valid in lane 0. Two or three stages in place of one per power of two: compilers for CPUs run all lanes through
// every stage.
fn workgroup_sum(own: ScaledSum, lane: u32) -> ScaledSum {
    let sums = reduce_to(own, lane, LANES, LANES / 8u);
    let total = reduce_to(sums, lane, LANES / 8u, LANES / 64u);
    if LANES == 64u {
        return total;
    }
    return reduce_to(total, lane, LANES / 64u, 1u);
}
