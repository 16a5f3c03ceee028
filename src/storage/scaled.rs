//! Numbers relative to a scale that neighbors share: their largest absolute value. Integers rescale, since drivers flush
//! subnormals. Only products of normal numbers are floats: every device rounds them as the CPU does.

pub(super) const WGSL: &str = include_str!("../../shaders/storage/scaled.wgsl");

const ABSOLUTE: u32 = 0x7fff_ffff;
const INFINITE: u32 = 0x7f80_0000;
const LEAST_NORMAL: u32 = 0x0080_0000;
/// The exponent bits of 1.
const ONE_EXPONENT: u32 = 127;
/// Fixed-point numbers with 24 bits behind the point.
const FIXED_POINT: f32 = 1.0 / (1 << 24) as f32;

/// The larger of a scale and the absolute value of a number, as bits. NaN exceeds infinity.
#[inline(always)]
pub(crate) fn larger_scale(scale: u32, bits: u32) -> u32 {
    scale.max(bits & ABSOLUTE)
}

/// The bits of an absolute value times 2^149, with an exponent of nine bits. Subnormal numbers are integers times 2^-149.
#[inline(always)]
fn lifted(bits: u32) -> u32 {
    let integer = (bits as i32 as f32).to_bits();
    if bits < LEAST_NORMAL { integer } else { bits.wrapping_add(149 << 23) }
}

/// The bits by which the exponent of a lifted scale exceeds that of 1.
#[inline(always)]
fn excess_exponent(scale: u32) -> u32 {
    ((lifted(scale) >> 23).max(ONE_EXPONENT) - ONE_EXPONENT) << 23
}

/// The absolute value of a number times the power of two that brings the scale to 1 ≤ scale < 2. Results below the
/// normal range are not exact, but stay below it.
#[inline(always)]
pub(crate) fn relative(bits: u32, scale: u32) -> f32 {
    let excess = excess_exponent(scale);
    f32::from_bits(lifted(bits & ABSOLUTE).max(excess) - excess)
}

/// The bits of the number whose `relative` a value ≥ 0 is, rounded to nearest, ties to even. NaN under a scale that is
/// not finite.
#[inline(always)]
pub(crate) fn restored(relative: f32, scale: u32) -> u32 {
    let bits = relative.to_bits().wrapping_add(excess_exponent(scale));
    let lowered = (bits >> 23) as i32 - 149;
    let normal = bits.wrapping_sub(149 << 23);
    let mantissa = (bits & (LEAST_NORMAL - 1)) | LEAST_NORMAL;
    let shift = (1 - lowered).clamp(1, 25) as u32;
    let subnormal = (mantissa + ((1 << (shift - 1)) - 1) + ((mantissa >> shift) & 1)) >> shift;
    let mut restored = if lowered < 1 { subnormal } else { normal };
    restored = if relative.to_bits() == 0 { 0 } else { restored };
    if scale >= INFINITE { INFINITE | (LEAST_NORMAL >> 1) } else { restored }
}

/// The bits of a share of the scale, in fixed point.
#[inline(always)]
pub(crate) fn share_bits(share: u32, scale: u32) -> u32 {
    restored(share as f32 * FIXED_POINT * relative(scale, scale), scale)
}

/// 1 where `below` is less than a value, else 0. Both are ≥ 0: their order is that of their bits.
#[inline(always)]
pub(crate) fn is_above(value: f32, below: f32) -> u32 {
    u32::from(below.to_bits() < value.to_bits())
}

/// Whether rounding at random takes the far one of two numbers around a third. The mean of both is then the third.
#[inline(always)]
pub(crate) fn takes_far(bits: u32, near: u32, far: u32, scale: u32, random: u32) -> bool {
    let (value, from, to) = (relative(bits, scale), relative(near, scale), relative(far, scale));
    let share = (random >> 8) as f32 * FIXED_POINT;
    share * (to - from).abs() < (value - from).abs()
}
