// Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2).
//   param *= 1 - lr * weight_decay
//   param -= lr * sign(beta1 * exp_avg + (1 - beta1) * grad), with sign(0) = 0
//   exp_avg = beta2 * exp_avg + (1 - beta2) * grad
// cautious (Liang et al. 2024, arXiv 2411.16085): no update where its sign differs from the gradient's
// cautious_weight_decay (Chen et al. 2025, arXiv 2510.12402): no decay where the update moves the parameter away from 0

import package::rule::math::{same_sign, sign_of};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override cautious: bool;
override cautious_weight_decay: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let interpolated = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * grad;
    var direction = sign_of(interpolated);
    if cautious {
        direction = direction * vec4<f32>(same_sign(interpolated, grad));
    }
    var decay = step.lr * step.weight_decay;
    if cautious_weight_decay {
        decay = select(decay, vec4<f32>(0.0), same_sign(-interpolated, old.param));
    }
    // Subtracts the decay: the factor 1 - lr * weight_decay would round in the same direction at every step.
    updated.param = old.param - decay * old.param;
    updated.param = updated.param - step.lr * direction;
    updated.exp_avg = hyper.beta2 * old.exp_avg + hyper.one_minus_beta2 * grad;
    return updated;
}

// The sign agreement: whether update and gradient have the same sign.
fn metric(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<bool> {
    let interpolated = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * grad;
    return same_sign(interpolated, grad);
}
