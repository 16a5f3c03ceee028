// Stub for steps that do not clip by segment norms.

import package::rule::step::{StepScalars};
import interface::{Hyper};

fn clip_by_segment(grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    return grad;
}

fn is_clipped_by_segment(hyper: Hyper, step: StepScalars) -> vec4<bool> {
    return vec4<bool>();
}
