//! f16 numbers (IEEE binary16), two to a word, the first in the lower half. Kernels read them and do not write them.

use super::format::{Format, load_halves};

const F16_MANTISSA: u32 = 0x3ff;

pub(crate) struct F16;

impl Format for F16 {
    fn name(&self) -> &'static str {
        "f16"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/storage/f16.wgsl")
    }
    fn functions(&self) -> &'static [&'static str] {
        &["f16_bits", "f16_window_bits"]
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
    fn store_quad(&self, _: &str) -> Option<String> {
        None
    }
    fn store_each(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}

/// Replaces `values` by the f32 of the same values.
pub(crate) fn load(numbers: &[half::f16], values: &mut Vec<f32>) {
    values.clear();
    values.extend(numbers.iter().map(|&number| f32::from_bits(widened_f16(number.to_bits().into()))));
}

/// The bits of the f32 of the same value, given the 16 bits.
#[inline(always)]
fn widened_f16(half: u32) -> u32 {
    let sign = (half & 0x8000) << 16;
    let (exponent, mantissa) = ((half >> 10) & 31, half & F16_MANTISSA);
    match (exponent, mantissa) {
        (0, 0) => sign,
        (0, _) => {
            let shift = mantissa.leading_zeros() - 21;
            let shifted = (mantissa << shift) & F16_MANTISSA;
            sign | ((113 - shift) << 23) | (shifted << 13)
        }
        (31, _) => sign | (255 << 23) | (mantissa << 13),
        _ => sign | ((exponent + 112) << 23) | (mantissa << 13),
    }
}
