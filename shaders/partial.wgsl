// A sum over scaled elements, which can neither overflow nor vanish: of squares, sum * 4^exponent. Twin:
// src/cpu/partial.rs.
//
// Composed in src/gpu/shader.rs with one of norm/*.wgsl.

struct Partial {
    exponent: i32,
    sum: f32,
    // Largest bits of an absolute value: orders finite numbers, infinity and NaN alike.
    max_bits: u32,
    first_nonfinite: u32,
}

var<workgroup> lane_partials: array<Partial, LANES>;

fn empty_partial() -> Partial {
    // equivalent(125): the exponent of a sum of 0 counts for nothing
    return Partial(-126, 0.0, 0u, NONE);
}

// 2^exponent as an f32, 0 below the normal range.
fn power_of_two(exponent: i32) -> f32 {
    return bitcast<f32>(u32(clamp(exponent + 127, 0, 254)) << 23u);
}

fn combine(a: Partial, b: Partial) -> Partial {
    let exponent = max(a.exponent, b.exponent);
    let sum = a.sum * rescale(a.exponent - exponent) + b.sum * rescale(b.exponent - exponent);
    return Partial(exponent, sum, max(a.max_bits, b.max_bits), min(a.first_nonfinite, b.first_nonfinite));
}

// The sum over the workgroup, as a tree of fixed shape; valid in lane 0.
fn reduce(partial: Partial, lane: u32) -> Partial {
    lane_partials[lane] = partial;
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        // equivalent(<=): a race, which lane 0 always wins where one thread takes the lanes in turn
        if lane < stride {
            lane_partials[lane] = combine(lane_partials[lane], lane_partials[lane + stride]);
        }
    }
    return lane_partials[lane];
}
