// f32 numbers: one word each, with the bits as they are.

fn f32_bits(words: vec4<u32>) -> vec4<u32> {
    return words;
}

fn f32_words(bits: vec4<u32>) -> vec4<u32> {
    return bits;
}
