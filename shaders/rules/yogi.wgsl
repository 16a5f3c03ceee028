// Yogi (Zaheer et al. 2018, NeurIPS; optax.yogi).
//   param *= 1 - lr * weight_decay
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_sq = exp_avg_sq - (1 - beta2) * sign(exp_avg_sq - grad^2) * grad^2
//   param -= lr / (1 - beta1^t) * exp_avg / (sqrt(exp_avg_sq / (1 - beta2^t)) + eps)
// Both averages start at initial_accumulator_value.

import package::rule::math::{lerp, sign_of};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    updated.exp_avg = lerp(old.exp_avg, grad, hyper.beta1, hyper.one_minus_beta1);
    let grad_sq = grad * grad;
    updated.exp_avg_sq = old.exp_avg_sq - hyper.one_minus_beta2 * (sign_of(old.exp_avg_sq - grad_sq) * grad_sq);
    let step_size = step.lr / step.bias_correction.x;
    let denom = sqrt(updated.exp_avg_sq / step.bias_correction.y) + hyper.eps;
    let decay = (step.lr * step.weight_decay) * old.param;
    // One subtraction: separate ones could each round in the same direction at every step.
    updated.param = old.param - (decay + step_size * (updated.exp_avg / denom));
    return updated;
}
