// Multiplication of absolute values by powers of two, through their exponent bits.
//
// WGSL lets compilers turn a * s + b * s into (a + b) * s, and a * s * s into a * (s * s): a factor of type f32 guards
// no sum from overflow. `ldexp` guards none either: drivers lower it to such products, its subnormal results may be 0,
// and beyond 2^128 it is undefined.

import package::kernels::control::{INFINITE};

// The bits of 2^-126, the least normal number.
const LEAST_NORMAL: u32 = 0x00800000u;

// 2^exponent; 0 below the normal range.
fn power_of_two(exponent: i32) -> f32 {
    return bitcast<f32>(u32(clamp(exponent + 127, 0, 254)) << 23u);
}

// The bits of four numbers times 2^149, with an exponent of nine bits. Subnormal numbers are integers times 2^-149.
fn raised(bits: vec4<u32>) -> vec4<u32> {
    let integers = bitcast<vec4<u32>>(vec4<f32>(vec4<i32>(bits)));
    // equivalent(<=): the least normal number is such an integer, too
    return select(bits + vec4<u32>(149u << 23u), integers, bits < vec4<u32>(LEAST_NORMAL));
}

// Four finite numbers times 2^exponent, with exponents from -126 to 126. Results below the normal range are not exact,
// but stay below it.
fn scale_quad(bits: vec4<u32>, exponent: vec4<i32>) -> vec4<f32> {
    let lowered = bitcast<vec4<u32>>(vec4<i32>(149) - exponent) << vec4<u32>(23u);
    let scaled = max(raised(bits), lowered) - lowered;
    return bitcast<vec4<f32>>(min(scaled, vec4<u32>(INFINITE)));
}

// value * 2^exponent for value >= 0, correctly rounded. Infinity and NaN stay.
fn scale_by_power_of_two(value: f32, exponent: i32) -> f32 {
    let bits = bitcast<u32>(value);
    let raised_bits = raised(vec4<u32>(bits)).x;
    let biased = i32(raised_bits >> 23u) - 149 + exponent;
    let normal = raised_bits - (bitcast<u32>(149 - exponent) << 23u);
    // Rounds to the nearest subnormal number, ties to even.
    let mantissa = (raised_bits & 0x007fffffu) | LEAST_NORMAL;
    // equivalent(26, boundary): the result is 0 from 25 on
    let shift = u32(clamp(1 - biased, 1, 25));
    let subnormal = (mantissa + ((1u << (shift - 1u)) - 1u) + ((mantissa >> shift) & 1u)) >> shift;
    var scaled = select(normal, subnormal, biased < 1);
    scaled = select(scaled, INFINITE, biased > 254);
    return bitcast<f32>(select(scaled, bits, bits == 0u || bits >= INFINITE));
}
