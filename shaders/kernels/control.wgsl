// The record that one step leaves for the next: counters, scalars of the step, statistics.
// Twin: src/control.rs.

struct Control {
    // 1 - beta^t of the last applied step, and of the one after it.
    bias_correction: vec4<f32>,
    upcoming_bias_correction: vec4<f32>,
    // What the rule carries from step to step, as of the last applied one.
    scalars: vec4<f32>,
    // Applied steps, skipped steps.
    step: u32,
    skipped: u32,
    // Whether `update` may write, and whether `NonFinite::Stop` has stopped all later steps.
    apply: u32,
    stopped: u32,
    lr: f32,
    clip_coef: f32,
    grad_norm: f32,
    // MEASURED if `grad_norm` was, INVALID_SCALE if the device's gradient scale was of no use.
    findings: u32,
    // What gradients are multiplied by, one factor after the other, to unscale and clip them.
    grad_factors: vec2<f32>,
    // The largest absolute value of a gradient, where they are clipped by value.
    clip_value: f32,
    // Steps skipped since the last applied one.
    consecutive_skipped: u32,
}

struct ControlBlock {
    control: Control,
    // Flat index of the first non-finite gradient: word `t & 1` belongs to applied step t, so that a step can
    // reset its successor's word while its own is being written.
    first_nonfinite: array<atomic<u32>, 2>,
}

// What the host writes for each recorded step.
struct SlotHead {
    lr: f32,
    // 1 / gradient scale, negative to maximize.
    inv_scale: f32,
    // Where to clip: the largest norm, or the fraction of the norms before that may be above it.
    max_norm: f32,
    flags: u32,
}

const CLIP: u32 = 1u;
const SKIP: u32 = 2u;
const STOP: u32 = 4u;
const EXACT: u32 = 8u;
const MEASURED: u32 = 1u;
const INVALID_SCALE: u32 = 2u;
const NONE: u32 = 0xffffffffu;
// Bits of the absolute value at and above which an f32 is infinite or NaN.
const INFINITE: u32 = 0x7f800000u;

// Flat index of the first non-finite of the gradients `index` to `index + 3`, whose absolute bits these are.
fn first_nonfinite(bits: vec4<u32>, index: u32) -> u32 {
    let found = select(vec4<u32>(NONE), index + vec4<u32>(0u, 1u, 2u, 3u), bits >= vec4<u32>(INFINITE));
    return min(min(found.x, found.y), min(found.z, found.w));
}

// For each digit of eight hexadecimal ones, from the lowest, and each value that it may have, of up to four betas: beta^n for
// the number n that it stands for, and 1 - beta^n.
@group(1) @binding(1) var<uniform> powers: array<vec4<f32>, 256>;

// 1 - beta^t without cancellation, from the digits of t: 1 - ab = (1 - a) + a (1 - b). From the lowest digit up, what was
// rounded before is multiplied by ever smaller powers; those of a digit that is 0 change nothing.
fn bias_correction(t: u32) -> vec4<f32> {
    var correction = vec4<f32>(0.0);
    // equivalent(7u): no test takes 2^28 steps, and hardly any run
    for (var digit = 0u; digit < 8u; digit++) {
        let power = power_of_digit(digit, t);
        correction = powers[power + 1u] + powers[power] * correction;
    }
    return correction;
}

// That of one beta where it is needed, else 0.
fn bias_correction_of(beta: u32, t: u32, needed: bool) -> f32 {
    var correction = 0.0;
    // equivalent(7u): no test takes 2^28 steps, and hardly any run
    for (var digit = select(8u, 0u, needed); digit < 8u; digit++) {
        let power = power_of_digit(digit, t);
        correction = powers[power + 1u][beta] + powers[power][beta] * correction;
    }
    return correction;
}

fn power_of_digit(digit: u32, t: u32) -> u32 {
    return digit * 32u + ((t >> (digit * 4u)) & 15u) * 2u;
}
