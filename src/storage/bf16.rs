//! bf16 numbers: the upper half of an f32, two to a word, the first in the lower half.

use super::format::{Format, load_halves, store_halves};
use crate::simd::vectorized;

const UPPER_HALF: u32 = 0xffff_0000;

pub(crate) struct Bf16;

impl Format for Bf16 {
    fn name(&self) -> &'static str {
        "bf16"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/storage/bf16.wgsl")
    }
    fn functions(&self) -> &'static [&'static str] {
        &["bf16_bits", "bf16_window_bits", "bf16_words"]
    }
    fn quad_type(&self) -> &'static str {
        "vec2<u32>"
    }
    fn load_quad(&self, quad: &str) -> String {
        format!("bf16_bits({quad})")
    }
    fn load_each(&self, words: &str, at: &str) -> String {
        load_halves("bf16_window_bits", words, at)
    }
    fn store_quad(&self, quad: &str) -> String {
        format!("{quad} = bf16_words(bits);")
    }
    fn store_each(&self, words: &str, at: &str) -> String {
        store_halves("bf16_words", words, at)
    }
}

/// Replaces `values` by the f32 of the same values.
pub(crate) fn load(numbers: &[half::bf16], values: &mut Vec<f32>) {
    values.resize(numbers.len(), 0.0);
    let pairs = values.iter_mut().zip(numbers);
    vectorized(
        #[inline(always)]
        || pairs.for_each(|(value, &number)| *value = f32::from_bits(bf16_bits(number))),
    );
}

/// Replaces `numbers` by the nearest numbers.
pub(crate) fn store(values: &[f32], numbers: &mut [half::bf16]) {
    let pairs = numbers.iter_mut().zip(values);
    vectorized(
        #[inline(always)]
        || {
            pairs.for_each(|(number, value)| {
                *number = half::bf16::from_bits((bf16_nearest(value.to_bits()) >> 16) as u16);
            });
        },
    );
}

/// The bits of the f32 of the same value.
#[inline(always)]
fn bf16_bits(number: half::bf16) -> u32 {
    u32::from(number.to_bits()) << 16
}

/// The f32 bits of the nearest bf16, ties to even. NaN stays NaN, and a bf16 stays as it is.
#[inline(always)]
pub(crate) fn bf16_nearest(bits: u32) -> u32 {
    let rounded = bits.wrapping_add(0x7fff).wrapping_add((bits >> 16) & 1);
    let is_exact = bits << 16 == 0;
    let quiet = if is_exact { bits } else { bits | 0x40_0000 };
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    (if is_nan { quiet } else { rounded }) & UPPER_HALF
}

/// The f32 bits of one of the two adjacent bf16, the closer one more often: the mean over all random bits is the number.
#[inline(always)]
pub(crate) fn bf16_stochastic(bits: u32, random: u32) -> u32 {
    let rounded = bits.wrapping_add(random & 0xffff) & UPPER_HALF;
    let is_finite = bits & 0x7fff_ffff < 0x7f80_0000;
    if is_finite { rounded } else { bf16_nearest(bits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random_bits;

    /// Every upper half, with lower halves around the tie. `half` quiets every NaN; here a bf16 stays as it is.
    #[test]
    fn the_nearest_bf16_is_that_of_half() {
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let bits = u32::from(high) << 16 | low;
                let expected = half::bf16::from_f32(f32::from_bits(bits));
                let is_signaling = low == 0 && expected.is_nan();
                let expected = if is_signaling { high } else { expected.to_bits() };
                assert_eq!(bf16_nearest(bits), u32::from(expected) << 16, "{bits:#x}");
            }
        }
    }

    #[test]
    fn stochastic_rounding_keeps_bf16_and_takes_one_of_two_neighbors() {
        for high in 0..=u16::MAX {
            let exact = u32::from(high) << 16;
            for random in [0, 1, 0x8000, 0xffff, u32::MAX] {
                assert_eq!(bf16_stochastic(exact, random), exact);
                let (bits, is_finite) = (exact | 0x1234, f32::from_bits(exact).is_finite());
                let rounded = bf16_stochastic(bits, random);
                let up = random & 0xffff >= 0x1_0000 - 0x1234;
                let expected = if is_finite { exact + (u32::from(up) << 16) } else { bf16_nearest(bits) };
                assert_eq!(rounded, expected, "{bits:#x} {random:#x}");
            }
        }
    }

    /// The mean of 10⁶ draws lies within five standard errors of the number, in every binade of both signs.
    #[test]
    fn stochastic_rounding_is_unbiased() {
        let draws = 1_000_000;
        for (case, exponent) in (0..=254).step_by(2).enumerate() {
            let bits = (case as u32 & 1) << 31 | exponent << 23 | (case as u32 * 0x5_1377) & 0x7f_ffff;
            let low = f64::from(f32::from_bits(bits & UPPER_HALF));
            let fraction = f64::from(bits & 0xffff) / 65536.0;
            let rounded_up =
                (0..draws).filter(|&i| bf16_stochastic(bits, random_bits(case as u32, 1, i)) != bits & UPPER_HALF);
            let mean = rounded_up.count() as f64 / f64::from(draws);
            let error = (fraction * (1.0 - fraction) / f64::from(draws)).sqrt();
            assert!((mean - fraction).abs() <= 5.0 * error, "{low:e}: {mean} for {fraction}");
        }
    }
}
