// Stub for rules that have sums but no tensor state.

import interface::{Hyper, SegmentSums, TensorState};

fn update_tensor_state(
    old: TensorState,
    sums: SegmentSums,
    lr: f32,
    hyper: Hyper,
    bias_correction: vec4<f32>,
    t: u32,
    is_first: bool,
) -> TensorState {
    return old;
}
