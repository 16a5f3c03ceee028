//! The 8-bit states of bitsandbytes: codes of its dynamic map (Dettmers, arXiv 1511.04561), relative to the largest
//! absolute value of 256 numbers.
//!
//! The levels of the map are 0, 1, and the middles of equal parts of 0.1 to 1, times powers of ten from 1e-6 on. Each
//! power has twice the parts of the one below.
//!
//! Codes come from comparisons with products, without a division: devices round divisions as they like. They are the
//! nearest ones. The CUDA kernels of bitsandbytes choose others for numbers in the middle of two levels, up to roundings,
//! and for numbers next to 0. Its CPU kernels look codes up by 16 bits of the quotient: 0 becomes 2e-5 of the largest.

use super::scaled::{is_above, larger_scale, relative, restored, takes_far};

pub(super) const WGSL: &str = include_str!("../../shaders/storage/dynamic.wgsl");

/// Neighbors with one scale.
pub(crate) const DYNAMIC_LEN: usize = 256;
/// The code of 0 in the signed map.
pub(super) const SIGNED_ZERO: u32 = 127;
/// The inverse of the absolute value of the least level.
const STRETCH: f32 = 1.0 / 0.992_968_74;
/// The bits of the largest finite number.
const LARGEST: u32 = 0x7f7f_ffff;
/// log2 of the parts of the least power. Level `at` of a map is part `at - parts` of the power with `parts` ≤ `at`.
const SIGNED_FIRST: u32 = 0;
const UNSIGNED_FIRST: u32 = 1;
/// 0.1 times 2^31, as f32 has it.
const TENTH: u32 = 214_748_368;
/// 0.9 times 2^24, as f32 has 1 - 0.1.
const NINE_TENTHS: u32 = 15_099_494;
const TWO_TO_MINUS_32: f32 = 1.0 / (1u64 << 32) as f32;

/// The larger of a scale and the one of a number, as bits. The map has no -1, its least level is -0.993. With the plain
/// absolute value, an average of negative numbers lost 0.7 % in each step.
#[inline(always)]
pub(crate) fn larger_signed_scale(scale: u32, bits: u32) -> u32 {
    let absolute = larger_scale(0, bits);
    let stretched = restored(relative(absolute, absolute) * STRETCH, absolute).min(LARGEST);
    let is_stretched = bits >> 31 == 1 && absolute <= LARGEST;
    larger_scale(scale, if is_stretched { stretched } else { bits })
}

/// The nearest code of the signed map, ties toward 0. The code of -1 is that of -0.993.
#[inline(always)]
pub(crate) fn signed_code(bits: u32, scale: u32) -> u32 {
    let value = relative(bits, scale);
    let mut level = level_step(0, 64, value, scale, SIGNED_FIRST);
    level = level_step(level, 32, value, scale, SIGNED_FIRST);
    level = level_step(level, 16, value, scale, SIGNED_FIRST);
    level = level_step(level, 8, value, scale, SIGNED_FIRST);
    level = level_step(level, 4, value, scale, SIGNED_FIRST);
    level = level_step(level, 2, value, scale, SIGNED_FIRST);
    level = level_step(level, 1, value, scale, SIGNED_FIRST);
    let positive = level + is_above(value, scaled_middle(127, scale, SIGNED_FIRST));
    if bits >> 31 == 1 { SIGNED_ZERO - level } else { SIGNED_ZERO + positive }
}

/// One of the two codes of the signed map around a number, the nearer one more often: the mean is the number.
#[inline(always)]
pub(crate) fn signed_code_stochastic(bits: u32, scale: u32, random: u32) -> u32 {
    let near = signed_code(bits, scale);
    let of_near = signed_bits(near, scale);
    let is_longer = (bits << 1) > (of_near << 1);
    let is_up = is_longer != (bits >> 31 == 1);
    let far = if is_up { (near + 1).min(255) } else { near.max(1) - 1 };
    if takes_far(bits, of_near, signed_bits(far, scale), scale, random) { far } else { near }
}

/// The bits of the number of a code of the signed map.
#[inline(always)]
pub(crate) fn signed_bits(code: u32, scale: u32) -> u32 {
    let sign = if code < SIGNED_ZERO { 1 << 31 } else { 0 };
    let level = code.max(SIGNED_ZERO) - code.min(SIGNED_ZERO);
    sign | level_bits(level, scale, SIGNED_FIRST)
}

/// The nearest code of the unsigned map, ties toward 0. A number above 0 has a code of 1 at least: a second moment of 0
/// beside a first moment makes a step of unlimited length. bitsandbytes has no such minimum.
#[inline(always)]
pub(crate) fn unsigned_code(bits: u32, scale: u32) -> u32 {
    let value = relative(bits, scale);
    let mut level = level_step(1, 128, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 64, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 32, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 16, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 8, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 4, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 2, value, scale, UNSIGNED_FIRST);
    level = level_step(level, 1, value, scale, UNSIGNED_FIRST);
    (level - 1).max((bits << 1).min(1))
}

/// One of the two codes of the unsigned map around a number, the nearer one more often: the mean is the number, except
/// between 0 and the code 1.
#[inline(always)]
pub(crate) fn unsigned_code_stochastic(bits: u32, scale: u32, random: u32) -> u32 {
    let near = unsigned_code(bits, scale);
    let of_near = unsigned_bits(near, scale);
    let far = if bits << 1 > of_near << 1 { (near + 1).min(255) } else { near.max(1) - 1 };
    let code = if takes_far(bits, of_near, unsigned_bits(far, scale), scale, random) { far } else { near };
    code.max((bits << 1).min(1))
}

/// The bits of the number of a code of the unsigned map.
#[inline(always)]
pub(crate) fn unsigned_bits(code: u32, scale: u32) -> u32 {
    level_bits(code + 1, scale, UNSIGNED_FIRST)
}

/// Adds `by` to a level if the value lies above the middle of the levels `level + by - 1` and `level + by`.
#[inline(always)]
fn level_step(level: u32, by: u32, value: f32, scale: u32, first: u32) -> u32 {
    level + by * is_above(value, scaled_middle(level + by - 1, scale, first))
}

/// The middle of a level and the next one, times the relative scale. Levels count in 36ths of a part of their power.
#[inline(always)]
fn scaled_middle(at: u32, scale: u32, first: u32) -> f32 {
    let (least, end) = (1 << first, 128 << first);
    let level = at.max(least);
    let log_parts = level.ilog2();
    let parts = 1 << log_parts;
    let twice = 36 * level - 32 * parts + 18;
    let is_last = level + 1 == 2 * parts;
    let mut sum = twice + if is_last { 54 } else { 18 };
    sum = if level + 1 == end { twice + 9 } else { sum };
    sum = if at < least { twice >> 1 } else { sum };
    let unit = of_power(
        log_parts - first,
        [1.25e-8, 6.25e-8, 3.125e-7, 1.562_5e-6],
        [7.812_5e-6, 3.906_25e-5, 1.953_125e-4, 0.0],
    );
    in_order((sum << (1 - first)) as f32 * unit, scale) * relative(scale, scale)
}

/// The middle of a magnitude of the signed map and the next one, for a scale of 1.
pub(super) fn signed_middle(magnitude: u32) -> f32 {
    scaled_middle(magnitude, 1f32.to_bits(), SIGNED_FIRST)
}

/// The middle of a code of the unsigned map and the next one, for a scale of 1.
pub(super) fn unsigned_middle(code: u32) -> f32 {
    scaled_middle(code + 1, 1f32.to_bits(), UNSIGNED_FIRST)
}

/// The bits of a level times the scale.
#[inline(always)]
fn level_bits(at: u32, scale: u32, first: u32) -> u32 {
    let (least, end) = (1 << first, 128 << first);
    let level = at.clamp(least, end - 1);
    let log_parts = level.ilog2();
    let part = level - (1 << log_parts);
    let twice = to_24_bits(boundary(part, log_parts) + boundary(part + 1, log_parts));
    let power = of_power(log_parts - first, [1e-6, 1e-5, 1e-4, 1e-3], [1e-2, 1e-1, 1.0, 0.0]);
    let mut share = in_order(twice as f32 * TWO_TO_MINUS_32 * power, scale);
    share = if at < least { 0.0 } else { share };
    share = if at >= end { 1.0 } else { share };
    restored(share * relative(scale, scale), scale)
}

/// The boundary `part` of equal parts of 0.1 to 1, times 2^31, as `torch.linspace` has it with AVX2: a product and a sum
/// with one rounding, from the nearer end.
#[inline(always)]
fn boundary(part: u32, log_parts: u32) -> u32 {
    let parts = 1 << log_parts;
    let from_tenth = TENTH + ((NINE_TENTHS * part) << (7 - log_parts));
    let from_one = (1 << 31) - ((NINE_TENTHS * (parts - part)) << (7 - log_parts));
    to_24_bits(if part < parts >> 1 { from_tenth } else { from_one })
}

/// An integer from 2^25 on with the bits of an f32, rounded to nearest, ties to even.
#[inline(always)]
fn to_24_bits(integer: u32) -> u32 {
    let shift = integer.ilog2() - 23;
    let half = (1 << (shift - 1)) - 1;
    ((integer + half + ((integer >> shift) & 1)) >> shift) << shift
}

/// The number of a power of ten, from 1e-6 on.
#[inline(always)]
fn of_power(power: u32, low: [f32; 4], high: [f32; 4]) -> f32 {
    let at = (power & 3) as usize;
    if power > 3 { high[at] } else { low[at] }
}

/// A product that is multiplied again. WGSL allows a * (b * c) for a * b * c: the sign of the scale, 0, keeps the order.
#[inline(always)]
fn in_order(product: f32, scale: u32) -> f32 {
    f32::from_bits(product.to_bits() ^ (scale >> 31))
}
