// Sums one vector per lane over a workgroup of 256, in a fixed order.

var<workgroup> lane_sums: array<vec4<f32>, 256>;

// Reduces the sums of the first `before` lanes to the first `after`: lane i adds lanes i + after, i + 2 * after, ...
fn reduce_to(own: vec4<f32>, lane: u32, before: u32, after: u32) -> vec4<f32> {
    // equivalent(<=): no lane reads the entry past the end
    if lane < before {
        lane_sums[lane] = own;
    }
    workgroupBarrier();
    var sum = own;
    // equivalent(lane <= after): no lane reads the entry past the end
    for (var other = select(before, lane + after, lane < after); other < before; other += after) {
        sum = sum + lane_sums[other];
    }
    return sum;
}

// The result is valid in lane 0.
fn workgroup_sum(own: vec4<f32>, lane: u32) -> vec4<f32> {
    return reduce_to(reduce_to(reduce_to(own, lane, 256u, 32u), lane, 32u, 4u), lane, 4u, 1u);
}
