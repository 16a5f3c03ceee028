// What the gradients add to the norm, and their finite check: one partial per block of 8,192 elements of the flat space.
// The tree depends on nothing but the elements' flat indices, so chunking does not change a bit.
// Twin: src/cpu/norm.rs.

@group(0) @binding(3) var<storage, read_write> partials: array<Partial>;

// Absolute bits of the four gradients at `element` of the chunk; 0 where frozen, padded or past the end.
fn load_quad(element: u32) -> vec4<u32> {
    // equivalent(>): of the quad behind the last no element is live
    if element >= chunk.length {
        return vec4<u32>(0u);
    }
    // equivalent: chunks end where blocks do, or all does, and behind that lavapipe reads no span that is live
    let count = chunk.length - element;
    let live = lanes_at(chunk.start + element, count).live;
    return select(vec4<u32>(0u), load_grad(element) & vec4<u32>(0x7fffffffu), live);
}

fn terms(bits: vec4<u32>, scale: f32) -> vec4<f32> {
    return terms_of(bitcast<vec4<f32>>(bits) * scale);
}

// One lane's part of 2,048 elements: four of each row of 256.
fn partial_of_tile(element: u32) -> Partial {
    let bits0 = load_quad(element);
    let bits1 = load_quad(element + 256u);
    let bits2 = load_quad(element + 512u);
    let bits3 = load_quad(element + 768u);
    let bits4 = load_quad(element + 1024u);
    let bits5 = load_quad(element + 1280u);
    let bits6 = load_quad(element + 1536u);
    let bits7 = load_quad(element + 1792u);

    let largest = max(max(max(bits0, bits1), max(bits2, bits3)), max(max(bits4, bits5), max(bits6, bits7)));
    let max_bits = max(max(largest.x, largest.y), max(largest.z, largest.w));
    var partial = empty_partial();
    partial.max_bits = max_bits;
    if max_bits >= INFINITE {
        let index = chunk.start + element;
        partial.first_nonfinite = min(
            min(
                min(first_nonfinite(bits0, index), first_nonfinite(bits1, index + 256u)),
                min(first_nonfinite(bits2, index + 512u), first_nonfinite(bits3, index + 768u)),
            ),
            min(
                min(first_nonfinite(bits4, index + 1024u), first_nonfinite(bits5, index + 1280u)),
                min(first_nonfinite(bits6, index + 1536u), first_nonfinite(bits7, index + 1792u)),
            ),
        );
    } else {
        // The largest element becomes 1 to 4 (2^-127 is not a normal f32).
        // equivalent(126, -125): half as large, the numbers have the same sum, its exponent one greater
        partial.exponent = clamp(i32(max_bits >> 23u) - 127, -126, 126);
        let scale = power_of_two(-partial.exponent);
        var sum = terms(bits0, scale);
        sum = sum + terms(bits1, scale);
        sum = sum + terms(bits2, scale);
        sum = sum + terms(bits3, scale);
        sum = sum + terms(bits4, scale);
        sum = sum + terms(bits5, scale);
        sum = sum + terms(bits6, scale);
        sum = sum + terms(bits7, scale);
        partial.sum = (sum.x + sum.y) + (sum.z + sum.w);
    }
    return partial;
}

@compute @workgroup_size(LANES)
fn norm(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = workgroup.y * grid.x + workgroup.x;
    var partial = empty_partial();
    for (var tile = 0u; tile < 4u; tile++) {
        partial = combine(partial, partial_of_tile(block * 8192u + tile * 2048u + lane * 4u));
    }
    partial = reduce(partial, lane);
    // The grid may overhang.
    // equivalent(<=, 8191u, && block * 8192u < chunk.length): the next chunk overwrites it, lavapipe discards the rest
    if lane == 0u && block * 8192u < chunk.length {
        partials[chunk.start / 8192u + block] = partial;
    }
}
