//! f32 numbers: one word each, with the bits as they are.

use super::format::Format;

pub(crate) struct F32;

impl Format for F32 {
    fn name(&self) -> &'static str {
        "f32"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/storage/f32.wgsl")
    }
    fn functions(&self) -> &'static [&'static str] {
        &["f32_bits", "f32_words"]
    }
    fn quad_type(&self) -> &'static str {
        "vec4<u32>"
    }
    fn load_quad(&self, quad: &str) -> String {
        format!("f32_bits({quad})")
    }
    fn load_each(&self, words: &str, at: &str) -> String {
        format!("f32_bits(vec4<u32>({words}[{at}], {words}[{at} + 1u], {words}[{at} + 2u], {words}[{at} + 3u]))")
    }
    fn store_quad(&self, quad: &str) -> String {
        format!("{quad} = f32_words(bits);")
    }
    fn store_each(&self, words: &str, at: &str) -> String {
        format!(
            "let words = f32_words(bits);\n    for (var lane = 0u; lane < 4u; lane++) {{\n        \
             if is_active[lane] {{\n            {words}[{at} + lane] = words[lane];\n        }}\n    }}"
        )
    }
}
