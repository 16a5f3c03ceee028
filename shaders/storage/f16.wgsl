// f16 numbers (IEEE binary16), two to a word, the first in the lower half. Integers widen them: drivers flush subnormals.

const HALF: u32 = 0xffffu;
const F16_MANTISSA: u32 = 0x3ffu;

// The f32 bits of four numbers, each in the lower half of a word.
fn widened_f16(halves: vec4<u32>) -> vec4<u32> {
    let sign = (halves & vec4<u32>(0x8000u)) << vec4<u32>(16u);
    let exponent = (halves >> vec4<u32>(10u)) & vec4<u32>(31u);
    let mantissa = halves & vec4<u32>(F16_MANTISSA);
    // The exponent's bias grows by 112; infinities and NaN keep the largest exponent.
    let widened = select(exponent + vec4<u32>(112u), vec4<u32>(255u), exponent == vec4<u32>(31u));
    let normal = (widened << vec4<u32>(23u)) | (mantissa << vec4<u32>(13u));
    // Subnormals are normal in f32: moves the first bit of the mantissa to the place of the hidden one.
    let shift = vec4<u32>(10u) - min(firstLeadingBit(mantissa), vec4<u32>(10u));
    let shifted = (mantissa << shift) & vec4<u32>(F16_MANTISSA);
    let subnormal = ((vec4<u32>(113u) - shift) << vec4<u32>(23u)) | (shifted << vec4<u32>(13u));
    let tiny = select(subnormal, vec4<u32>(0u), mantissa == vec4<u32>(0u));
    return sign | select(normal, tiny, exponent == vec4<u32>(0u));
}

// The f32 bits of the four numbers in two words.
fn f16_bits(words: vec2<u32>) -> vec4<u32> {
    return widened_f16(vec4<u32>(words.x & HALF, words.x >> 16u, words.y & HALF, words.y >> 16u));
}

// The f32 bits of four numbers from number `at` on; `words` begin with the word that holds it.
fn f16_window_bits(words: vec3<u32>, at: u32) -> vec4<u32> {
    let even = vec4<u32>(words.x & HALF, words.x >> 16u, words.y & HALF, words.y >> 16u);
    return widened_f16(select(even, vec4<u32>(even.yzw, words.z & HALF), at % 2u == 1u));
}

// The nearest f16, ties to even, each in the lower half of a word. Too large numbers become infinite; NaN stays NaN, and
// an f16 stays as it is.
fn narrowed_f16(bits: vec4<u32>) -> vec4<u32> {
    let sign = (bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u);
    let absolute = bits & vec4<u32>(0x7fffffffu);
    let rounded = absolute + vec4<u32>(0xfffu) + ((absolute >> vec4<u32>(13u)) & vec4<u32>(1u));
    let normal = min((rounded - vec4<u32>(0x38000000u)) >> vec4<u32>(13u), vec4<u32>(0x7c00u));
    // Below 2^-14 the unit is 2^-24: shifts the mantissa, and rounds what is shifted out.
    let shift = clamp(vec4<u32>(126u) - min(absolute >> vec4<u32>(23u), vec4<u32>(126u)), vec4<u32>(14u), vec4<u32>(25u));
    let mantissa = (absolute & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);
    let half_unit = vec4<u32>(1u) << (shift - vec4<u32>(1u));
    let subnormal = (mantissa + half_unit - vec4<u32>(1u) + ((mantissa >> shift) & vec4<u32>(1u))) >> shift;
    let finite = select(normal, subnormal, absolute < vec4<u32>(0x38800000u));
    let is_exact = (absolute << vec4<u32>(19u)) == vec4<u32>(0u);
    let payload = (absolute >> vec4<u32>(13u)) & vec4<u32>(F16_MANTISSA);
    let nan = vec4<u32>(0x7c00u) | select(payload | vec4<u32>(0x200u), payload, is_exact);
    return sign | select(finite, nan, absolute > vec4<u32>(0x7f800000u));
}

// The f32 bits of the nearest f16.
fn f16_nearest(bits: vec4<u32>) -> vec4<u32> {
    return widened_f16(narrowed_f16(bits));
}

// The two words of the nearest numbers.
fn f16_words(bits: vec4<u32>) -> vec2<u32> {
    let halves = narrowed_f16(bits);
    return halves.xz | (halves.yw << vec2<u32>(16u));
}
