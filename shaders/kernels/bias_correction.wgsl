// 1 - beta^t from the step counter, without cancellation.

// For each of eight hexadecimal digits, lowest first, and each of its 16 values n: beta^n and 1 - beta^n, n times the
// digit's place value. Up to four betas, one per lane.
@group(1) @binding(1) var<uniform> powers: array<vec4<f32>, 256>;

// 1 - ab = (1 - a) + a (1 - b), digit by digit. Powers shrink towards the high digits, and with them earlier rounding
// errors; a digit of 0 changes nothing.
fn bias_correction(t: u32) -> vec4<f32> {
    var correction = vec4<f32>(0.0);
    // undetected(7u): no test takes 2^28 steps
    for (var digit = 0u; digit < 8u; digit++) {
        let power = power_of_digit(digit, t);
        correction = powers[power + 1u] + powers[power] * correction;
    }
    return correction;
}

// One lane of `bias_correction` if it is needed, else 0.
fn bias_correction_of(beta: u32, t: u32, needed: bool) -> f32 {
    var correction = 0.0;
    // undetected(7u): no test takes 2^28 steps
    for (var digit = select(8u, 0u, needed); digit < 8u; digit++) {
        let power = power_of_digit(digit, t);
        correction = powers[power + 1u][beta] + powers[power][beta] * correction;
    }
    return correction;
}

fn power_of_digit(digit: u32, t: u32) -> u32 {
    return digit * 32u + ((t >> (digit * 4u)) & 15u) * 2u;
}
