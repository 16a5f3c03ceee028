// Parameters and gradients in their storage format: f32, or bf16 and f16 two to a word. `gpu/layer.rs` puts the crate's
// functions for one format before this: shaders/storage/bf16.wgsl, shaders/storage/f16.wgsl.

const F32: u32 = 0u;
const F16: u32 = 2u;

// The word that holds a number.
fn word_of(format: u32, at: u32) -> u32 {
    return select(at / 2u, at, format == F32);
}

// The bits of a number in the word that holds it.
fn number_bits(format: u32, word: u32, at: u32) -> u32 {
    return select((word >> (at % 2u * 16u)) & 0xffffu, word, format == F32);
}

fn widened(format: u32, bits: vec4<u32>) -> vec4<f32> {
    if format == F32 {
        return bitcast<vec4<f32>>(bits);
    }
    if format == F16 {
        return bitcast<vec4<f32>>(widened_f16(bits));
    }
    return bitcast<vec4<f32>>(bits << vec4(16u));
}

// The two words of the nearest numbers of 16 bits.
fn narrowed_words(format: u32, values: vec4<f32>) -> vec2<u32> {
    let bits = bitcast<vec4<u32>>(values);
    if format == F16 {
        return f16_words(bits);
    }
    return bf16_words(bits);
}
