//! bf16 numbers: the upper half of an f32, two to a word, the first in the lower half. Kernels read them and do not write them.

use super::format::{Format, load_halves};

pub(crate) struct Bf16;

impl Format for Bf16 {
    fn name(&self) -> &'static str {
        "bf16"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/storage/bf16.wgsl")
    }
    fn functions(&self) -> &'static [&'static str] {
        &["bf16_bits", "bf16_window_bits"]
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
    fn store_quad(&self, _: &str) -> Option<String> {
        None
    }
    fn store_each(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}

/// Replaces `values` by the f32 of the same values.
pub(crate) fn load(numbers: &[half::bf16], values: &mut Vec<f32>) {
    values.clear();
    values.extend(numbers.iter().map(|&number| f32::from_bits(bf16_bits(number))));
}

/// The bits of the f32 of the same value.
#[inline(always)]
fn bf16_bits(number: half::bf16) -> u32 {
    u32::from(number.to_bits()) << 16
}
