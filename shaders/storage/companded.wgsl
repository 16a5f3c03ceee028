// Codes of 8 bits relative to the largest of 32 numbers, dense where numbers are small (arXiv 2602.23349).
// A first moment x times its scale has the code 127·2x / (1 + |x|), a second moment 255·√x.
//
// Neither direction has a root or a division of floats: devices round those as they like. Codes come from comparisons
// of products. Numbers come from fixed-point shares, by divisions of integers.

import package::storage::scaled::{is_above, relative, share_bits, takes_far};

// 4·255²
const SECOND_SQUARES: f32 = 260100.0;

// The nearest codes of first moments, ties toward 0: an i8 in the lowest byte.
fn first_moment_code(bits: vec4<u32>, scale: vec4<u32>) -> vec4<u32> {
    let value = relative(bits, scale);
    let largest = relative(scale, scale);
    var code = first_moment_step(vec4<u32>(0u), 64u, value, largest);
    code = first_moment_step(code, 32u, value, largest);
    code = first_moment_step(code, 16u, value, largest);
    code = first_moment_step(code, 8u, value, largest);
    code = first_moment_step(code, 4u, value, largest);
    code = first_moment_step(code, 2u, value, largest);
    code = first_moment_step(code, 1u, value, largest);
    return select(code, (vec4<u32>(256u) - code) & vec4<u32>(0xffu), bits >> vec4<u32>(31u) == vec4<u32>(1u));
}

// Adds `by` to codes if their values lie above the middle of the codes `code + by - 1` and `code + by`. The code
// c + ½ belongs to the share (2c + 1) / (507 - 2c).
fn first_moment_step(code: vec4<u32>, by: u32, value: vec4<f32>, largest: vec4<f32>) -> vec4<u32> {
    let twice = 2u * (code + vec4<u32>(by)) - vec4<u32>(1u);
    return code + by * is_above(value * vec4<f32>(vec4<u32>(508u) - twice), largest * vec4<f32>(twice));
}

// The bits of the first moments of codes: the shares c / (254 - c) of the scale.
fn first_moment_bits(code: vec4<u32>, scale: vec4<u32>) -> vec4<u32> {
    let sign = (code & vec4<u32>(0x80u)) << vec4<u32>(24u);
    let magnitude = min(min(code, vec4<u32>(256u) - code), vec4<u32>(127u));
    let divisor = vec4<u32>(254u) - magnitude;
    let share = ((magnitude << vec4<u32>(24u)) + (divisor >> vec4<u32>(1u))) / divisor;
    return sign | share_bits(share, scale);
}

// One of the two codes around each first moment, the nearer one more often: the mean is the moment.
fn first_moment_code_stochastic(bits: vec4<u32>, scale: vec4<u32>, random: vec4<u32>) -> vec4<u32> {
    let near = first_moment_code(bits, scale);
    let of_near = first_moment_bits(near, scale);
    let is_longer = bits << vec4<u32>(1u) > of_near << vec4<u32>(1u);
    let is_up = is_longer != (bits >> vec4<u32>(31u) == vec4<u32>(1u));
    let far = (near + select(vec4<u32>(255u), vec4<u32>(1u), is_up)) & vec4<u32>(0xffu);
    return select(near, far, takes_far(bits, of_near, first_moment_bits(far, scale), scale, random));
}

// The nearest codes of second moments, ties toward 0. A number above 0 has a code of 1 at least: a second moment of 0
// beside a first moment makes a step of unlimited length.
fn second_moment_code(bits: vec4<u32>, scale: vec4<u32>) -> vec4<u32> {
    let value = relative(bits, scale) * SECOND_SQUARES;
    let largest = relative(scale, scale);
    var code = second_moment_step(vec4<u32>(0u), 128u, value, largest);
    code = second_moment_step(code, 64u, value, largest);
    code = second_moment_step(code, 32u, value, largest);
    code = second_moment_step(code, 16u, value, largest);
    code = second_moment_step(code, 8u, value, largest);
    code = second_moment_step(code, 4u, value, largest);
    code = second_moment_step(code, 2u, value, largest);
    code = second_moment_step(code, 1u, value, largest);
    return max(code, min(bits << vec4<u32>(1u), vec4<u32>(1u)));
}

// Adds `by` to codes if their values lie above the middle of the codes `code + by - 1` and `code + by`. The code
// c + ½ belongs to the share (2c + 1)² / (4·255²).
fn second_moment_step(code: vec4<u32>, by: u32, value: vec4<f32>, largest: vec4<f32>) -> vec4<u32> {
    let twice = 2u * (code + vec4<u32>(by)) - vec4<u32>(1u);
    return code + by * is_above(value, largest * vec4<f32>(twice * twice));
}

// One of the two codes around each second moment, the nearer one more often: the mean is the moment, except between 0 and
// the code 1.
fn second_moment_code_stochastic(bits: vec4<u32>, scale: vec4<u32>, random: vec4<u32>) -> vec4<u32> {
    let near = second_moment_code(bits, scale);
    let of_near = second_moment_bits(near, scale);
    let is_longer = bits << vec4<u32>(1u) > of_near << vec4<u32>(1u);
    let down = max(near, vec4<u32>(1u)) - vec4<u32>(1u);
    let far = select(down, min(near + vec4<u32>(1u), vec4<u32>(255u)), is_longer);
    let code = select(near, far, takes_far(bits, of_near, second_moment_bits(far, scale), scale, random));
    return max(code, min(bits << vec4<u32>(1u), vec4<u32>(1u)));
}

// The bits of the second moments of codes: the shares c² / 255² of the scale.
fn second_moment_bits(code: vec4<u32>, scale: vec4<u32>) -> vec4<u32> {
    let square = code * code;
    // 2^24 = 258·255² + 766
    let share = 258u * square + (766u * square + vec4<u32>(32512u)) / vec4<u32>(65025u);
    return share_bits(share, scale);
}
