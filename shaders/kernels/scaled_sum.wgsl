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

// The sums of the first `before` lanes in the first `after` of them, each of which adds up what lies `after` apart.
fn reduce_to(partial: Partial, lane: u32, before: u32, after: u32) -> Partial {
    // equivalent(<=): the sum behind them is not read
    if lane < before {
        lane_partials[lane] = partial;
    }
    workgroupBarrier();
    var sum = partial;
    // equivalent(<=): nor is that
    for (var other = select(before, lane + after, lane < after); other < before; other += after) {
        sum = combine(sum, lane_partials[other]);
    }
    return sum;
}

// The sum over the workgroup, in an order that never changes; valid in lane 0. Of two or three stages and not one for every
// power of two: compilers for CPUs let all lanes run through every stage.
fn reduce(partial: Partial, lane: u32) -> Partial {
    let sums = reduce_to(partial, lane, LANES, LANES / 8u);
    let total = reduce_to(sums, lane, LANES / 8u, LANES / 64u);
    if LANES == 64u {
        return total;
    }
    return reduce_to(total, lane, LANES / 64u, 1u);
}
