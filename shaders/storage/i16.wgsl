// 16-bit integers, two to a word, the first in the lower half: the lower halves of split parameters.

const LOWER_HALF: u32 = 0xffffu;

// The four integers in two words, each with its sign extended.
fn i16_bits(words: vec2<u32>) -> vec4<u32> {
    let shifted = vec4<u32>(words.x << 16u, words.x, words.y << 16u, words.y);
    return bitcast<vec4<u32>>(bitcast<vec4<i32>>(shifted) >> vec4<u32>(16u));
}

// Four integers from number `at` on; `words` begin with the word that holds it.
fn i16_window_bits(words: vec3<u32>, at: u32) -> vec4<u32> {
    let even = i16_bits(words.xy);
    let odd = vec4<u32>(even.yzw, i16_bits(words.zz).x);
    return select(even, odd, at % 2u == 1u);
}

// The two words of four integers.
fn i16_words(bits: vec4<u32>) -> vec2<u32> {
    return (bits.xz & vec2<u32>(LOWER_HALF)) | (bits.yw << vec2<u32>(16u));
}
