// Lookahead (Zhang et al. 2019, arXiv 1907.08610): after every k steps
//   slow += alpha * (param - slow)
//   param = slow

import package::rule::math::{lerp};
import package::rule::step::{StepScalars};
import interface::{Hyper, TransformStates};

override lookahead_k: u32;

// The slow weights begin as the parameters before the first step.
fn begin_lookahead(old: TransformStates, param: vec4<f32>, step: StepScalars) -> TransformStates {
    var begun = old;
    // No branch: CPU drivers compile a kernel anew for each value that a branch depends on.
    begun.slow = select(old.slow, param, step.is_first);
    return begun;
}

fn synchronizes(t: u32) -> bool {
    return t % lookahead_k == 0u;
}

fn update_slow(old: TransformStates, param: vec4<f32>, hyper: Hyper, t: u32) -> TransformStates {
    var updated = old;
    let slow = lerp(old.slow, param, hyper.lookahead_rest, hyper.lookahead_alpha);
    updated.slow = select(old.slow, slow, synchronizes(t));
    return updated;
}

fn synchronized_param(states: TransformStates, param: vec4<f32>, t: u32) -> vec4<f32> {
    return select(param, states.slow, synchronizes(t));
}
