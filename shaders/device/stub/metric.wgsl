// Stub for rules without a metric.

import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

fn metric(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<bool> {
    return vec4<bool>();
}
