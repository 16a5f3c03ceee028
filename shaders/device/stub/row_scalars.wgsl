// Stub for optimizers whose rows follow the step counter.

import package::rule::step::{StepScalars};
import applied::{Applied, apply};
import interface::{Element, Hyper, TransformStates};

fn apply_by_row(
    old: Element,
    states: TransformStates,
    grad: vec4<f32>,
    hyper: Hyper,
    step: StepScalars,
    index: u32,
) -> Applied {
    return apply(old, states, grad, hyper, step);
}
