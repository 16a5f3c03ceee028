// Scalars of one step for four elements: the last argument of every rule function.
//
// Values that change from step to step select, they never branch: lavapipe compiles a shader anew for every value
// of a uniform that a branch depends on.

import interface::{ScalarState, SegmentSums, TensorState};

struct StepScalars {
    // The group's options.
    lr: vec4<f32>,
    weight_decay: vec4<f32>,
    // 1 - beta^t of each bias-corrected beta.
    bias_correction: vec4<f32>,
    // The number of this applied step, from 1.
    t: u32,
    scalar_state: ScalarState,
    // Sums over the segment of each element, and the state of its tensor.
    sums: SegmentSums,
    tensor_state: TensorState,
}
