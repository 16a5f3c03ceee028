// Twin: src/cpu/reduce.rs.

var<workgroup> lane_sums: array<vec4<f32>, 256>;

// The sums of the first `before` lanes in the first `after` of them: see partial.wgsl.
fn reduce_to(sums: vec4<f32>, lane: u32, before: u32, after: u32) -> vec4<f32> {
    // equivalent(<=): the sum behind them is not read
    if lane < before {
        lane_sums[lane] = sums;
    }
    workgroupBarrier();
    var sum = sums;
    // equivalent(<=): nor is that
    for (var other = select(before, lane + after, lane < after); other < before; other += after) {
        sum = sum + lane_sums[other];
    }
    return sum;
}

// The sums over the workgroup, in an order that never changes; valid in lane 0.
fn reduce(sums: vec4<f32>, lane: u32) -> vec4<f32> {
    return reduce_to(reduce_to(reduce_to(sums, lane, 256u, 32u), lane, 32u, 4u), lane, 4u, 1u);
}
