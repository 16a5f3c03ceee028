// What the gradients add to the norm, and their finite check: one partial per block of 8,192 elements of the flat space.
// The order of the sums depends on nothing but the elements' flat indices, so chunking does not change a bit.
// Eight lanes add up 1,024 elements that lie side by side, 32 at a time: what they load together is 128 bytes, a line or two
// of any cache, and compilers for CPUs, which run some lanes to the barrier before the others, go through memory in order.
// Twin: src/cpu/norm.rs.

@group(0) @binding(3) var<storage, read_write> partials: array<Partial>;

// Absolute bits of the four gradients at `element` of the chunk; 0 where frozen, padded or past the end.
fn load_quad(near: Near, element: u32) -> vec4<u32> {
    return select(vec4<u32>(0u), load_grad(element) & vec4<u32>(0x7fffffffu), chunk_lanes(near, element).live);
}

fn terms(bits: vec4<u32>, scale: f32) -> vec4<f32> {
    return terms_of(bitcast<vec4<f32>>(bits) * scale);
}

// One lane's part of 256 elements: four of each row of 32.
fn partial_of_tile(element: u32) -> Partial {
    let near = chunk_near(element);
    let bits0 = load_quad(near, element);
    let bits1 = load_quad(near, element + 32u);
    let bits2 = load_quad(near, element + 64u);
    let bits3 = load_quad(near, element + 96u);
    let next = chunk_near(element + 128u);
    let bits4 = load_quad(next, element + 128u);
    let bits5 = load_quad(next, element + 160u);
    let bits6 = load_quad(next, element + 192u);
    let bits7 = load_quad(next, element + 224u);

    let largest = max(max(max(bits0, bits1), max(bits2, bits3)), max(max(bits4, bits5), max(bits6, bits7)));
    let max_bits = max(max(largest.x, largest.y), max(largest.z, largest.w));
    let finite = max_bits < INFINITE;
    // The largest element becomes 1 to 4 (2^-127 is not a normal f32).
    // equivalent(126, -125): half as large, the numbers have the same sum, its exponent one greater
    let exponent = select(-126, clamp(i32(max_bits >> 23u) - 127, -126, 126), finite);
    let scale = power_of_two(-exponent);
    var sum = terms(bits0, scale);
    sum = sum + terms(bits1, scale);
    sum = sum + terms(bits2, scale);
    sum = sum + terms(bits3, scale);
    sum = sum + terms(bits4, scale);
    sum = sum + terms(bits5, scale);
    sum = sum + terms(bits6, scale);
    sum = sum + terms(bits7, scale);
    return Partial(exponent, select(0.0, (sum.x + sum.y) + (sum.z + sum.w), finite), max_bits, NONE);
}

@compute @workgroup_size(LANES)
fn norm(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = workgroup.y * grid.x + workgroup.x;
    let element = block * 8192u + lane / 8u * 1024u + lane % 8u * 4u;
    var partial = partial_of_tile(element);
    partial = combine(partial, partial_of_tile(element + 256u));
    partial = combine(partial, partial_of_tile(element + 512u));
    partial = combine(partial, partial_of_tile(element + 768u));
    // Where a lane has elements that are not finite it looks for the first of them: rare, and so not done on the way.
    var row = select(32u, 0u, partial.max_bits >= INFINITE);
    // equivalent(<=): a lane that looks finds one
    while row < 32u && partial.first_nonfinite == NONE {
        let at = element + row * 32u;
        partial.first_nonfinite = first_nonfinite(load_quad(chunk_near(at), at), chunk.start + at);
        row += 1u;
    }
    partial = reduce(partial, lane);
    // The grid may overhang.
    // equivalent(<=, 8191u, && block * 8192u < chunk.length): the next chunk overwrites it, lavapipe discards the rest
    if lane == 0u && block * 8192u < chunk.length {
        partials[chunk.start / 8192u + block] = partial;
    }
}
