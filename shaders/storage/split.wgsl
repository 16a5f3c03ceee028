// An f32 in two halves: the nearest bf16, ties away from zero, and the distance of the bits to it as a 16-bit integer.

// The f32 bits of both halves. A zero has no smaller magnitude: a negative distance is that of a number the program replaced.
fn split_bits(high: vec4<u32>, low: vec4<u32>) -> vec4<u32> {
    let is_replaced = ((high << vec4<u32>(1u)) == vec4<u32>(0u)) & (bitcast<vec4<i32>>(low) < vec4<i32>(0));
    return high + select(low, vec4<u32>(0u), is_replaced);
}

// Clears the bit of a NaN whose upper half would be rounded to -0 or 0.
fn with_upper_half(bits: vec4<u32>) -> vec4<u32> {
    let wraps = (bits & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x7fff8000u);
    return select(bits, bits & vec4<u32>(0xffff7fffu), wraps);
}

// The f32 bits of the upper half.
fn split_high(bits: vec4<u32>) -> vec4<u32> {
    return (with_upper_half(bits) + vec4<u32>(0x8000u)) & vec4<u32>(0xffff0000u);
}

// The lower half.
fn split_low(bits: vec4<u32>) -> vec4<u32> {
    return with_upper_half(bits) - split_high(bits);
}
