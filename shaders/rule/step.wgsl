// Scalars of one step for four elements: the last argument of every rule function that updates elements.
//
// Use `select`, not `if`, on values that change from step to step: lavapipe recompiles a shader for every value of a
// uniform that a branch depends on.

import interface::{ScalarState, SegmentSums, TensorState};

struct StepScalars {
    // Learning rate and weight decay of each element's group.
    lr: vec4<f32>,
    weight_decay: vec4<f32>,
    // 1 - beta^t of each bias-corrected beta.
    bias_correction: vec4<f32>,
    // Number of applied steps, this step included: 1 in the first step.
    t: u32,
    // Whether the states hold their initial values: no step was applied, and the program gave none.
    is_first: bool,
    scalar_state: ScalarState,
    // Sums over each element's segment, and the state of its tensor.
    sums: SegmentSums,
    tensor_state: TensorState,
}
