//! f16 numbers (IEEE binary16), two to a word, the first in the lower half.

use super::format::{Format, load_halves, store_halves};
use crate::simd::vectorized;

const F16_MANTISSA: u32 = 0x3ff;
/// The unit of subnormal numbers: 2^-24.
const F16_UNIT: f32 = 1.0 / (1u32 << 24) as f32;

pub(crate) struct F16;

impl Format for F16 {
    fn name(&self) -> &'static str {
        "f16"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/storage/f16.wgsl")
    }
    fn functions(&self) -> &'static [&'static str] {
        &["f16_bits", "f16_window_bits", "f16_words"]
    }
    fn quad_type(&self) -> &'static str {
        "vec2<u32>"
    }
    fn load_quad(&self, quad: &str) -> String {
        format!("f16_bits({quad})")
    }
    fn load_each(&self, words: &str, at: &str) -> String {
        load_halves("f16_window_bits", words, at)
    }
    fn store_quad(&self, quad: &str) -> String {
        format!("{quad} = f16_words(bits);")
    }
    fn store_each(&self, words: &str, at: &str) -> String {
        store_halves("f16_words", words, at)
    }
}

/// Replaces `values` by the f32 of the same values.
pub(crate) fn load(numbers: &[half::f16], values: &mut Vec<f32>) {
    values.resize(numbers.len(), 0.0);
    let pairs = values.iter_mut().zip(numbers);
    vectorized(
        #[inline(always)]
        || pairs.for_each(|(value, &number)| *value = f32::from_bits(widened_f16(number.to_bits().into()))),
    );
}

/// Replaces `numbers` by the nearest numbers.
pub(crate) fn store(values: &[f32], numbers: &mut [half::f16]) {
    let pairs = numbers.iter_mut().zip(values);
    vectorized(
        #[inline(always)]
        || pairs.for_each(|(number, value)| *number = half::f16::from_bits(narrowed_f16(value.to_bits()) as u16)),
    );
}

/// The f32 bits of the nearest f16.
#[inline(always)]
pub(crate) fn f16_nearest(bits: u32) -> u32 {
    widened_f16(narrowed_f16(bits))
}

/// The bits of the f32 of the same value, given the 16 bits. Without a branch, for vectors.
#[inline(always)]
fn widened_f16(half: u32) -> u32 {
    let sign = (half & 0x8000) << 16;
    let (exponent, mantissa) = ((half >> 10) & 31, half & F16_MANTISSA);
    // The exponent's bias grows by 112; infinities and NaN keep the largest exponent.
    let widened = if exponent == 31 { 255 } else { exponent + 112 };
    let normal = (widened << 23) | (mantissa << 13);
    // Subnormals are normal in f32.
    let tiny = (mantissa as i32 as f32 * F16_UNIT).to_bits();
    sign | if exponent == 0 { tiny } else { normal }
}

/// The nearest f16, ties to even. Too large numbers become infinite; NaN stays NaN, and an f16 stays as it is.
#[inline(always)]
fn narrowed_f16(bits: u32) -> u32 {
    let sign = (bits >> 16) & 0x8000;
    let absolute = bits & 0x7fff_ffff;
    let rounded = absolute + 0xfff + ((absolute >> 13) & 1);
    let normal = (rounded.wrapping_sub(0x3800_0000) >> 13).min(0x7c00);
    // Below 2^-14 the unit is 2^-24: shifts the mantissa, and rounds what is shifted out.
    let shift = (126 - (absolute >> 23).min(126)).clamp(14, 25);
    let mantissa = (absolute & 0x7f_ffff) | 0x80_0000;
    let half_unit = 1 << (shift - 1);
    let subnormal = (mantissa + half_unit - 1 + ((mantissa >> shift) & 1)) >> shift;
    let finite = if absolute < 0x3880_0000 { subnormal } else { normal };
    let is_exact = absolute << 19 == 0;
    let payload = (absolute >> 13) & F16_MANTISSA;
    let nan = 0x7c00 | if is_exact { payload } else { payload | 0x200 };
    sign | if absolute > 0x7f80_0000 { nan } else { finite }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every f16, and the numbers around the ties between it and its neighbors.
    #[test]
    fn the_nearest_f16_is_that_of_half() {
        for number in 0..=u16::MAX {
            let exact = widened_f16(u32::from(number));
            assert_eq!(narrowed_f16(exact), u32::from(number));
            let subnormal = f32::from_bits(exact).abs() < 2f32.powi(-14);
            for offset in [1, 0xfff, 0x1000, 0x1001, 0x1fff] {
                // Half a unit of a subnormal is 2^-25.
                let bits = if subnormal {
                    let distance = f64::from(offset) / 8192.0 * 2f64.powi(-24);
                    let value = f64::from(f32::from_bits(exact));
                    ((value.abs() + distance).copysign(value) as f32).to_bits()
                } else {
                    exact + offset
                };
                let value = f32::from_bits(bits);
                assert_eq!(narrowed_f16(bits), u32::from(half::f16::from_f32(value).to_bits()), "{value:e} {bits:#x}");
            }
        }
        for value in [0.0, 1e-45, 1e-30, 2f32.powi(-25), 2f32.powi(-26), 65519.0, 65520.0, 1e30, f32::INFINITY] {
            for value in [value, -value] {
                assert_eq!(narrowed_f16(value.to_bits()), u32::from(half::f16::from_f32(value).to_bits()), "{value:e}");
            }
        }
    }
}
