// The 8-bit states of bitsandbytes: codes of its dynamic map (Dettmers, arXiv 1511.04561), relative to the largest
// absolute value of 256 numbers.
//
// The levels of the map are 0, 1, and the middles of equal parts of 0.1 to 1, times powers of ten from 1e-6 on. Each
// power has twice the parts of the one below.
//
// Codes come from comparisons with products, without a division: devices round divisions as they like. Levels are
// computed: lavapipe takes minutes to compile constant arrays of 256 numbers.

import package::storage::scaled::{is_above, larger_scale, relative, restored, takes_far};

// The code of 0 in the signed map.
const SIGNED_ZERO: u32 = 127u;
// The inverse of the absolute value of the least level.
const STRETCH: f32 = 0x1.01d01p+0f;
// The bits of the largest finite number.
const LARGEST: u32 = 0x7f7fffffu;
// log2 of the parts of the least power. Level `at` of a map is part `at - parts` of the power with `parts` ≤ `at`.
const SIGNED_FIRST: u32 = 0u;
const UNSIGNED_FIRST: u32 = 1u;
// 0.1 times 2^31, as f32 has it.
const TENTH: u32 = 214748368u;
// 0.9 times 2^24, as f32 has 1 - 0.1.
const NINE_TENTHS: u32 = 15099494u;
const TWO_TO_MINUS_32: f32 = 0x1p-32f;

// The larger of a scale and those of four numbers, as bits. The map has no -1, its least level is -0.993. With the plain
// absolute value, an average of negative numbers lost 0.7 % in each step.
fn larger_signed_scale(scale: u32, bits: vec4<u32>) -> u32 {
    let absolute = bits & vec4<u32>(0x7fffffffu);
    let stretched = min(restored(relative(absolute, absolute) * STRETCH, absolute), vec4<u32>(LARGEST));
    let is_stretched = (bits >> vec4<u32>(31u) == vec4<u32>(1u)) & (absolute <= vec4<u32>(LARGEST));
    return larger_scale(scale, select(bits, stretched, is_stretched));
}

// The nearest codes of the signed map, ties toward 0. The code of -1 is that of -0.993.
fn signed_code(bits: vec4<u32>, scale: vec4<u32>) -> vec4<u32> {
    let value = relative(bits, scale);
    var level = level_step(vec4<u32>(0u), 64u, value, scale, SIGNED_FIRST);
    level = level_step(level, 32u, value, scale, SIGNED_FIRST);
    level = level_step(level, 16u, value, scale, SIGNED_FIRST);
    level = level_step(level, 8u, value, scale, SIGNED_FIRST);
    level = level_step(level, 4u, value, scale, SIGNED_FIRST);
    level = level_step(level, 2u, value, scale, SIGNED_FIRST);
    level = level_step(level, 1u, value, scale, SIGNED_FIRST);
    let positive = level + is_above(value, scaled_middle(vec4<u32>(127u), scale, SIGNED_FIRST));
    let is_negative = bits >> vec4<u32>(31u) == vec4<u32>(1u);
    return select(vec4<u32>(SIGNED_ZERO) + positive, vec4<u32>(SIGNED_ZERO) - level, is_negative);
}

// One of the two codes of the signed map around each number, the nearer one more often: the mean is the number.
fn signed_code_stochastic(bits: vec4<u32>, scale: vec4<u32>, random: vec4<u32>) -> vec4<u32> {
    let near = signed_code(bits, scale);
    let of_near = signed_bits(near, scale);
    let is_longer = bits << vec4<u32>(1u) > of_near << vec4<u32>(1u);
    let is_up = is_longer != (bits >> vec4<u32>(31u) == vec4<u32>(1u));
    let down = max(near, vec4<u32>(1u)) - vec4<u32>(1u);
    let far = select(down, min(near + vec4<u32>(1u), vec4<u32>(255u)), is_up);
    return select(near, far, takes_far(bits, of_near, signed_bits(far, scale), scale, random));
}

// The bits of the numbers of codes of the signed map.
fn signed_bits(code: vec4<u32>, scale: vec4<u32>) -> vec4<u32> {
    let sign = select(vec4<u32>(0u), vec4<u32>(1u << 31u), code < vec4<u32>(SIGNED_ZERO));
    let level = max(code, vec4<u32>(SIGNED_ZERO)) - min(code, vec4<u32>(SIGNED_ZERO));
    return sign | level_bits(level, scale, SIGNED_FIRST);
}

// The nearest codes of the unsigned map, ties toward 0. A number above 0 has a code of 1 at least: a second moment of 0
// beside a first moment makes a step of unlimited length. bitsandbytes has no such minimum.
fn unsigned_code(bits: vec4<u32>, scale: vec4<u32>) -> vec4<u32> {
    let value = relative(bits, scale);
    var level = level_step(vec4<u32>(1u), 128u, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 64u, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 32u, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 16u, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 8u, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 4u, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 2u, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 1u, value, scale, UNSIGNED_FIRST);
    return max(level - vec4<u32>(1u), min(bits << vec4<u32>(1u), vec4<u32>(1u)));
}

// One of the two codes of the unsigned map around each number, the nearer one more often: the mean is the number, except
// between 0 and the code 1.
fn unsigned_code_stochastic(bits: vec4<u32>, scale: vec4<u32>, random: vec4<u32>) -> vec4<u32> {
    let near = unsigned_code(bits, scale);
    let of_near = unsigned_bits(near, scale);
    let is_longer = bits << vec4<u32>(1u) > of_near << vec4<u32>(1u);
    let down = max(near, vec4<u32>(1u)) - vec4<u32>(1u);
    let far = select(down, min(near + vec4<u32>(1u), vec4<u32>(255u)), is_longer);
    let code = select(near, far, takes_far(bits, of_near, unsigned_bits(far, scale), scale, random));
    return max(code, min(bits << vec4<u32>(1u), vec4<u32>(1u)));
}

// The bits of the numbers of codes of the unsigned map.
fn unsigned_bits(code: vec4<u32>, scale: vec4<u32>) -> vec4<u32> {
    return level_bits(code + vec4<u32>(1u), scale, UNSIGNED_FIRST);
}

// Adds `by` to levels if their values lie above the middle of the levels `level + by - 1` and `level + by`.
fn level_step(level: vec4<u32>, by: u32, value: vec4<f32>, scale: vec4<u32>, first: u32) -> vec4<u32> {
    return level + by * is_above(value, scaled_middle(level + vec4<u32>(by - 1u), scale, first));
}

// The middles of levels and the next ones, times the relative scale. Levels count in 36ths of a part of their power.
fn scaled_middle(at: vec4<u32>, scale: vec4<u32>, first: u32) -> vec4<f32> {
    let least = vec4<u32>(1u << first);
    let end = vec4<u32>(128u << first);
    let level = max(at, least);
    let log_parts = firstLeadingBit(level);
    let parts = vec4<u32>(1u) << log_parts;
    let twice = 36u * level - 32u * parts + vec4<u32>(18u);
    let is_last = level + vec4<u32>(1u) == 2u * parts;
    var sum = twice + select(vec4<u32>(18u), vec4<u32>(54u), is_last);
    sum = select(sum, twice + vec4<u32>(9u), level + vec4<u32>(1u) == end);
    sum = select(sum, twice >> vec4<u32>(1u), at < least);
    let unit = of_power(
        log_parts - vec4<u32>(first),
        vec4<f32>(1.25e-8, 6.25e-8, 3.125e-7, 1.5625e-6),
        vec4<f32>(7.8125e-6, 3.90625e-5, 1.953125e-4, 0.0),
    );
    return in_order(vec4<f32>(sum << vec4<u32>(1u - first)) * unit, scale) * relative(scale, scale);
}

// The bits of levels times the scale.
fn level_bits(at: vec4<u32>, scale: vec4<u32>, first: u32) -> vec4<u32> {
    let least = vec4<u32>(1u << first);
    let end = vec4<u32>(128u << first);
    let level = clamp(at, least, end - vec4<u32>(1u));
    let log_parts = firstLeadingBit(level);
    let part = level - (vec4<u32>(1u) << log_parts);
    let twice = to_24_bits(boundary(part, log_parts) + boundary(part + vec4<u32>(1u), log_parts));
    let power = of_power(
        log_parts - vec4<u32>(first),
        vec4<f32>(1e-6, 1e-5, 1e-4, 1e-3),
        vec4<f32>(1e-2, 1e-1, 1.0, 0.0),
    );
    var share = in_order(vec4<f32>(twice) * TWO_TO_MINUS_32 * power, scale);
    share = select(share, vec4<f32>(0.0), at < least);
    share = select(share, vec4<f32>(1.0), at >= end);
    return restored(share * relative(scale, scale), scale);
}

// The boundaries `part` of equal parts of 0.1 to 1, times 2^31, as `torch.linspace` has it with AVX2: a product and a
// sum with one rounding, from the nearer end.
fn boundary(part: vec4<u32>, log_parts: vec4<u32>) -> vec4<u32> {
    let parts = vec4<u32>(1u) << log_parts;
    let from_tenth = vec4<u32>(TENTH) + ((NINE_TENTHS * part) << (vec4<u32>(7u) - log_parts));
    let from_one = vec4<u32>(1u << 31u) - ((NINE_TENTHS * (parts - part)) << (vec4<u32>(7u) - log_parts));
    return to_24_bits(select(from_one, from_tenth, part < (parts >> vec4<u32>(1u))));
}

// Integers from 2^25 on with the bits of an f32, rounded to nearest, ties to even.
fn to_24_bits(integer: vec4<u32>) -> vec4<u32> {
    let shift = firstLeadingBit(integer) - vec4<u32>(23u);
    let half = (vec4<u32>(1u) << (shift - vec4<u32>(1u))) - vec4<u32>(1u);
    return ((integer + half + ((integer >> shift) & vec4<u32>(1u))) >> shift) << shift;
}

// The numbers of powers of ten, from 1e-6 on.
fn of_power(power: vec4<u32>, low: vec4<f32>, high: vec4<f32>) -> vec4<f32> {
    let at = power & vec4<u32>(3u);
    let of_low = vec4<f32>(low[at.x], low[at.y], low[at.z], low[at.w]);
    let of_high = vec4<f32>(high[at.x], high[at.y], high[at.z], high[at.w]);
    return select(of_low, of_high, power > vec4<u32>(3u));
}

// Products that are multiplied again. WGSL allows a * (b * c) for a * b * c: the sign of the scale, 0, keeps the order.
fn in_order(product: vec4<f32>, scale: vec4<u32>) -> vec4<f32> {
    // undetected: Mesa keeps the order
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(product) ^ (scale >> vec4<u32>(31u)));
}
