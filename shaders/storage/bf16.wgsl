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

// The f32 bits of the nearest bf16, ties to even. NaN stays NaN, and a bf16 stays as it is.
fn bf16_nearest(bits: vec4<u32>) -> vec4<u32> {
    let rounded = bits + vec4<u32>(0x7fffu) + ((bits >> vec4<u32>(16u)) & vec4<u32>(1u));
    let is_exact = (bits << vec4<u32>(16u)) == vec4<u32>(0u);
    let quiet = select(bits | vec4<u32>(0x400000u), bits, is_exact);
    let is_nan = (bits & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    return select(rounded, quiet, is_nan) & vec4<u32>(UPPER_HALF);
}

// The f32 bits of one of the two adjacent bf16, the closer one more often: the mean over all random bits is the number.
fn bf16_stochastic(bits: vec4<u32>, random: vec4<u32>) -> vec4<u32> {
    let rounded = (bits + (random & vec4<u32>(0xffffu))) & vec4<u32>(UPPER_HALF);
    let is_finite = (bits & vec4<u32>(0x7fffffffu)) < vec4<u32>(0x7f800000u);
    return select(bf16_nearest(bits), rounded, is_finite);
}

// The two words of the nearest numbers.
fn bf16_words(bits: vec4<u32>) -> vec2<u32> {
    let rounded = bf16_nearest(bits);
    return (rounded.xz >> vec2<u32>(16u)) | rounded.yw;
}
