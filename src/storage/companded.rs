//! Codes of 8 bits relative to the largest of 32 numbers, dense where numbers are small (arXiv 2602.23349).
//! A first moment x times its scale has the code 127·2x / (1 + |x|), a second moment 255·√x.
//!
//! Neither direction has a root or a division of floats: devices round those as they like. Codes come from comparisons
//! of products. Numbers come from fixed-point shares, by divisions of integers.

use super::scaled::{is_above, relative, share_bits, takes_far};

pub(super) const WGSL: &str = include_str!("../../shaders/storage/companded.wgsl");

/// Neighbors with one scale.
pub(crate) const COMPANDED_LEN: usize = 32;
/// 4·255²
const SECOND_SQUARES: f32 = 260_100.0;

/// The nearest code of a first moment, ties toward 0: an i8 in the lowest byte.
#[inline(always)]
pub(crate) fn first_moment_code(bits: u32, scale: u32) -> u32 {
    let value = relative(bits, scale);
    let largest = relative(scale, scale);
    let mut code = first_moment_step(0, 64, value, largest);
    code = first_moment_step(code, 32, value, largest);
    code = first_moment_step(code, 16, value, largest);
    code = first_moment_step(code, 8, value, largest);
    code = first_moment_step(code, 4, value, largest);
    code = first_moment_step(code, 2, value, largest);
    code = first_moment_step(code, 1, value, largest);
    if bits >> 31 == 1 { (256 - code) & 0xff } else { code }
}

/// Adds `by` to a code if the value lies above the middle of the codes `code + by - 1` and `code + by`. The code
/// c + ½ belongs to the share (2c + 1) / (507 - 2c).
#[inline(always)]
fn first_moment_step(code: u32, by: u32, value: f32, largest: f32) -> u32 {
    let [of_value, of_largest] = first_moment_factors(code + by - 1);
    code + by * is_above(value * of_value, largest * of_largest)
}

/// The factors of value and scale whose products are equal in the middle of a code and the next one.
#[inline(always)]
pub(super) fn first_moment_factors(code: u32) -> [f32; 2] {
    [(507 - 2 * code) as f32, (2 * code + 1) as f32]
}

/// The bits of the first moment of a code: the share c / (254 - c) of the scale.
#[inline(always)]
pub(crate) fn first_moment_bits(code: u32, scale: u32) -> u32 {
    let sign = (code & 0x80) << 24;
    let magnitude = code.min(256 - code).min(127);
    let divisor = 254 - magnitude;
    let share = ((magnitude << 24) + (divisor >> 1)) / divisor;
    sign | share_bits(share, scale)
}

/// One of the two codes around a first moment, the nearer one more often: the mean is the moment.
#[inline(always)]
pub(crate) fn first_moment_code_stochastic(bits: u32, scale: u32, random: u32) -> u32 {
    let near = first_moment_code(bits, scale);
    let of_near = first_moment_bits(near, scale);
    let is_longer = bits << 1 > of_near << 1;
    let is_up = is_longer != (bits >> 31 == 1);
    let far = (near + if is_up { 1 } else { 255 }) & 0xff;
    if takes_far(bits, of_near, first_moment_bits(far, scale), scale, random) { far } else { near }
}

/// The nearest code of a second moment, ties toward 0. A number above 0 has a code of 1 at least: a second moment of 0
/// beside a first moment makes a step of unlimited length.
#[inline(always)]
pub(crate) fn second_moment_code(bits: u32, scale: u32) -> u32 {
    let value = relative(bits, scale) * SECOND_SQUARES;
    let largest = relative(scale, scale);
    let mut code = second_moment_step(0, 128, value, largest);
    code = second_moment_step(code, 64, value, largest);
    code = second_moment_step(code, 32, value, largest);
    code = second_moment_step(code, 16, value, largest);
    code = second_moment_step(code, 8, value, largest);
    code = second_moment_step(code, 4, value, largest);
    code = second_moment_step(code, 2, value, largest);
    code = second_moment_step(code, 1, value, largest);
    code.max((bits << 1).min(1))
}

/// Adds `by` to a code if the value lies above the middle of the codes `code + by - 1` and `code + by`. The code
/// c + ½ belongs to the share (2c + 1)² / (4·255²).
#[inline(always)]
fn second_moment_step(code: u32, by: u32, value: f32, largest: f32) -> u32 {
    code + by * is_above(value, largest * second_moment_factors(code + by - 1)[1])
}

/// As [`first_moment_factors`], of second moments.
#[inline(always)]
pub(super) fn second_moment_factors(code: u32) -> [f32; 2] {
    [SECOND_SQUARES, ((2 * code + 1) * (2 * code + 1)) as f32]
}

/// One of the two codes around a second moment, the nearer one more often: the mean is the moment, except between 0 and
/// the code 1.
#[inline(always)]
pub(crate) fn second_moment_code_stochastic(bits: u32, scale: u32, random: u32) -> u32 {
    let near = second_moment_code(bits, scale);
    let of_near = second_moment_bits(near, scale);
    let far = if bits << 1 > of_near << 1 { (near + 1).min(255) } else { near.max(1) - 1 };
    let code = if takes_far(bits, of_near, second_moment_bits(far, scale), scale, random) { far } else { near };
    code.max((bits << 1).min(1))
}

/// The bits of the second moment of a code: the share c² / 255² of the scale.
#[inline(always)]
pub(crate) fn second_moment_bits(code: u32, scale: u32) -> u32 {
    let square = code * code;
    // 2^24 = 258·255² + 766
    let share = 258 * square + (766 * square + 32_512) / 65_025;
    share_bits(share, scale)
}
