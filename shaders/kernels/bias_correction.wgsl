// Computes 1 - beta^t from the step counter, without cancellation.

// For each of the eight hexadecimal digits of t, lowest first, and each digit value d: beta^n and 1 - beta^n with
// n = d * 16^place. Up to four betas, one per vector component.
@group(1) @binding(1) var<uniform> powers: array<vec4<f32>, 256>;

// Applies 1 - ab = (1 - a) + a (1 - b) digit by digit. Each higher digit multiplies earlier rounding errors by a
// smaller power; a digit of 0 changes nothing.
fn bias_correction(t: u32) -> vec4<f32> {
    var correction = vec4<f32>(0.0);
    // undetected(7u): no test takes 2^28 steps
    for (var digit = 0u; digit < 8u; digit++) {
        let power = power_of_digit(digit, t);
        correction = powers[power + 1u] + powers[power] * correction;
    }
    return correction;
}

// Component `beta` of `bias_correction` if `needed`, else 0.
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
