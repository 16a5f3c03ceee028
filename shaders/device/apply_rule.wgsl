// Clips by segment norms, then applies the rule.

import package::rule::step::{StepScalars};
import clip_segment::{clip_by_segment};
import interface::{Element, Hyper};
import rule::{rule};

fn apply(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    return rule(old, clip_by_segment(grad, hyper, step), hyper, step);
}
