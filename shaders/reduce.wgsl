// Twin: `reduce` in src/cpu/measure.rs.

var<workgroup> lane_sums: array<vec4<f32>, 256>;

// The sums over the workgroup, as a tree of fixed shape; valid in lane 0.
fn reduce(sums: vec4<f32>, lane: u32) -> vec4<f32> {
    lane_sums[lane] = sums;
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        // equivalent(<=): a race, which lane 0 always wins where one thread takes the lanes in turn
        if lane < stride {
            lane_sums[lane] = lane_sums[lane] + lane_sums[lane + stride];
        }
    }
    return lane_sums[lane];
}
