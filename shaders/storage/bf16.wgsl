// bf16 numbers: the upper half of an f32, two to a word, the first in the lower half.

const UPPER_HALF: u32 = 0xffff0000u;

// The f32 bits of the four numbers in two words.
fn bf16_bits(words: vec2<u32>) -> vec4<u32> {
    return vec4<u32>(words.x << 16u, words.x & UPPER_HALF, words.y << 16u, words.y & UPPER_HALF);
}

// The f32 bits of four numbers from number `at` on; `words` begin with the word that holds it.
fn bf16_window_bits(words: vec3<u32>, at: u32) -> vec4<u32> {
    let even = bf16_bits(words.xy);
    let odd = vec4<u32>(even.yzw, words.z << 16u);
    return select(even, odd, at % 2u == 1u);
}
