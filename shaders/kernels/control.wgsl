// The control block: the step counters, decisions and statistics of the last step.

struct Control {
    // 1 - beta^t for the last applied step t, and for step t + 1.
    bias_correction: vec4<f32>,
    upcoming_bias_correction: vec4<f32>,
    // The rule's scalar state after the last applied step.
    scalar_state: vec4<f32>,
    // Counts of applied and of skipped steps.
    step: u32,
    skipped: u32,
    // 1 if `update` writes; 1 if `NonFinite::Stop` has stopped the optimizer.
    apply: u32,
    stopped: u32,
    lr: f32,
    clip_coef: f32,
    grad_norm: f32,
    // NORM_MEASURED if the step computed `grad_norm`, INVALID_SCALE if the gradient scale was unusable.
    findings: u32,
    // Unscale and clip: every gradient is multiplied by x, then by y.
    grad_factors: vec2<f32>,
    // The bound of clipping by value.
    clip_value: f32,
    // Steps skipped since the last applied one.
    consecutive_skipped: u32,
}

struct ControlBlock {
    control: Control,
    // Flat index of the first non-finite gradient, or NONE. Step t writes word `t & 1` and resets the other word for
    // step t + 1.
    first_nonfinite: array<atomic<u32>, 2>,
    // Tensors without a gradient in the last step.
    missing_gradients: u32,
    // The loss scale after the step; 0 without a gradient scaler.
    loss_scale: f32,
    // 1 if the last remap found an invalid index. Steps leave it.
    invalid_rows: u32,
    padding: array<u32, 3>,
}

// Written by the host for each recorded step.
struct StepHead {
    lr: f32,
    // 1 / gradient scale; negative to maximize.
    inv_scale: f32,
    // The maximum norm; for clipping at a percentile, the fraction.
    clip_limit: f32,
    flags: u32,
}

const CLIP: u32 = 1u;
const SKIP: u32 = 2u;
const STOP: u32 = 4u;
const EXACT: u32 = 8u;
// The program gave the states: no step is the first.
const GIVEN_STATES: u32 = 16u;
const NORM_MEASURED: u32 = 1u;
const INVALID_SCALE: u32 = 2u;
const NONE: u32 = 0xffffffffu;
// |x| is infinite or NaN from these bits on.
const INFINITE: u32 = 0x7f800000u;

// Whether the states hold their initial values. `first` is the step's number if no step was applied before.
fn has_initial_states(t: u32, first: u32, flags: u32) -> bool {
    return (t == first) & ((flags & GIVEN_STATES) == 0u);
}

// Flat index of the first non-finite gradient among `index` to `index + 3`, given the bits of their absolute values.
fn first_nonfinite(bits: vec4<u32>, index: u32) -> u32 {
    let found = select(vec4<u32>(NONE), index + vec4<u32>(0u, 1u, 2u, 3u), bits >= vec4<u32>(INFINITE));
    return min(min(found.x, found.y), min(found.z, found.w));
}
