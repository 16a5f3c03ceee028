// Numbers relative to a scale that neighbors share: their largest absolute value. Integers rescale, since drivers flush
// subnormals. Only products of normal numbers are floats: every device rounds them as the CPU does.

const SCALED_ABSOLUTE: u32 = 0x7fffffffu;
const SCALED_INFINITE: u32 = 0x7f800000u;
const SCALED_LEAST_NORMAL: u32 = 0x00800000u;
// The exponent bits of 1.
const ONE_EXPONENT: u32 = 127u;
// Fixed-point numbers with 24 bits behind the point.
const FIXED_POINT: f32 = 0x1p-24f;

// The larger of a scale and the absolute values of four numbers, as bits. NaN exceeds infinity.
fn larger_scale(scale: u32, bits: vec4<u32>) -> u32 {
    let absolute = bits & vec4<u32>(SCALED_ABSOLUTE);
    return max(scale, max(max(absolute.x, absolute.y), max(absolute.z, absolute.w)));
}

// The bits of absolute values times 2^149, with an exponent of nine bits. Subnormal numbers are integers times 2^-149.
fn lifted(bits: vec4<u32>) -> vec4<u32> {
    let integer = bitcast<vec4<u32>>(vec4<f32>(vec4<i32>(bits)));
    // equivalent(<=): the least normal number is such an integer, too
    return select(bits + vec4<u32>(149u << 23u), integer, bits < vec4<u32>(SCALED_LEAST_NORMAL));
}

// The bits by which the exponent of a lifted scale exceeds that of 1.
fn excess_exponent(scale: vec4<u32>) -> vec4<u32> {
    return (max(lifted(scale) >> vec4<u32>(23u), vec4<u32>(ONE_EXPONENT)) - vec4<u32>(ONE_EXPONENT)) << vec4<u32>(23u);
}

// The absolute values of numbers times the power of two that brings the scale to 1 ≤ scale < 2. Results below the
// normal range are not exact, but stay below it.
fn relative(bits: vec4<u32>, scale: vec4<u32>) -> vec4<f32> {
    let excess = excess_exponent(scale);
    return bitcast<vec4<f32>>(max(lifted(bits & vec4<u32>(SCALED_ABSOLUTE)), excess) - excess);
}

// The bits of the numbers whose `relative` are values ≥ 0, rounded to nearest, ties to even. NaN under a scale that is
// not finite.
fn restored(relative: vec4<f32>, scale: vec4<u32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(relative) + excess_exponent(scale);
    let lowered = vec4<i32>(bits >> vec4<u32>(23u)) - vec4<i32>(149);
    let normal = bits - vec4<u32>(149u << 23u);
    let mantissa = (bits & vec4<u32>(SCALED_LEAST_NORMAL - 1u)) | vec4<u32>(SCALED_LEAST_NORMAL);
    let shift = vec4<u32>(clamp(vec4<i32>(1) - lowered, vec4<i32>(1), vec4<i32>(25)));
    let half = (vec4<u32>(1u) << (shift - vec4<u32>(1u))) - vec4<u32>(1u);
    let subnormal = (mantissa + half + ((mantissa >> shift) & vec4<u32>(1u))) >> shift;
    var restored = select(normal, subnormal, lowered < vec4<i32>(1));
    restored = select(restored, vec4<u32>(0u), bitcast<vec4<u32>>(relative) == vec4<u32>(0u));
    return select(restored, vec4<u32>(SCALED_INFINITE | (SCALED_LEAST_NORMAL >> 1u)), scale >= vec4<u32>(SCALED_INFINITE));
}

// The bits of shares of the scale, in fixed point.
fn share_bits(share: vec4<u32>, scale: vec4<u32>) -> vec4<u32> {
    return restored(vec4<f32>(share) * FIXED_POINT * relative(scale, scale), scale);
}

// 1 where `below` is less than a value, else 0. Both are ≥ 0: their order is that of their bits.
fn is_above(value: vec4<f32>, below: vec4<f32>) -> vec4<u32> {
    return select(vec4<u32>(0u), vec4<u32>(1u), bitcast<vec4<u32>>(below) < bitcast<vec4<u32>>(value));
}

// Whether rounding at random takes the far one of two numbers around a third. The mean of both is then the third.
fn takes_far(bits: vec4<u32>, near: vec4<u32>, far: vec4<u32>, scale: vec4<u32>, random: vec4<u32>) -> vec4<bool> {
    let value = relative(bits, scale);
    let from_near = relative(near, scale);
    let to_far = relative(far, scale);
    let share = vec4<f32>(random >> vec4<u32>(8u)) * FIXED_POINT;
    return share * abs(to_far - from_near) < abs(value - from_near);
}

// A word of four codes, the first in its lowest byte.
fn pack_codes(codes: vec4<u32>) -> u32 {
    return codes.x | (codes.y << 8u) | (codes.z << 16u) | (codes.w << 24u);
}

// The four codes of a word.
fn unpack_codes(word: u32) -> vec4<u32> {
    return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
}
