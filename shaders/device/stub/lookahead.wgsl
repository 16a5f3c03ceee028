// Stub for steps without Lookahead.

import package::rule::step::{StepScalars};
import interface::{Hyper, TransformStates};

fn begin_lookahead(old: TransformStates, param: vec4<f32>, step: StepScalars) -> TransformStates {
    return old;
}

fn update_slow(old: TransformStates, param: vec4<f32>, hyper: Hyper, t: u32) -> TransformStates {
    return old;
}

fn synchronized_param(states: TransformStates, param: vec4<f32>, t: u32) -> vec4<f32> {
    return param;
}
