//! 16-bit integers, two to a word, the first in the lower half: the lower halves of split parameters.

use super::format::{Format, load_halves, store_halves};

pub(crate) struct I16;

impl Format for I16 {
    fn name(&self) -> &'static str {
        "i16"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/storage/i16.wgsl")
    }
    fn functions(&self) -> &'static [&'static str] {
        &["i16_bits", "i16_window_bits", "i16_words"]
    }
    fn quad_type(&self) -> &'static str {
        "vec2<u32>"
    }
    fn load_quad(&self, quad: &str) -> String {
        format!("i16_bits({quad})")
    }
    fn load_each(&self, words: &str, at: &str) -> String {
        load_halves("i16_window_bits", words, at)
    }
    fn store_quad(&self, quad: &str) -> String {
        format!("{quad} = i16_words(bits);")
    }
    fn store_each(&self, words: &str, at: &str) -> String {
        store_halves("i16_words", words, at)
    }
}
