// Clips by segment norms, applies the rule, then Lookahead, then the average.

import package::rule::step::{StepScalars};
import average::{update_average};
import clip_segment::{clip_by_segment};
import interface::{Element, Hyper, TransformStates};
import lookahead::{begin_lookahead, synchronized_param, update_slow};
import rule::{rule};

// An element after the step, and the states of its transforms.
struct Applied {
    element: Element,
    states: TransformStates,
}

fn apply(old: Element, states: TransformStates, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Applied {
    let begun = begin_lookahead(states, old.param, step);
    var updated = rule(old, clip_by_segment(grad, hyper, step), hyper, step);
    let slow = update_slow(begun, updated.param, hyper, step.t);
    updated.param = synchronized_param(slow, updated.param, step.t);
    return Applied(updated, update_average(slow, updated.param, hyper, step.t));
}
