// AdaBelief (Zhuang et al. 2020, arXiv 2010.07468; optax.adabelief).
//   param *= 1 - lr * weight_decay
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_var = beta2 * exp_avg_var + (1 - beta2) * (grad - exp_avg)^2 + eps_root
//   param -= lr / (1 - beta1^t) * exp_avg / (sqrt(exp_avg_var / (1 - beta2^t)) + eps)

import package::rule::math::{lerp};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    updated.exp_avg = lerp(old.exp_avg, grad, hyper.beta1, hyper.one_minus_beta1);
    // Equals grad - updated.exp_avg without the rounding error of that average.
    let prediction_error = hyper.beta1 * (grad - old.exp_avg);
    let squared_error = prediction_error * prediction_error;
    updated.exp_avg_var = lerp(old.exp_avg_var, squared_error, hyper.beta2, hyper.one_minus_beta2) + hyper.eps_root;
    let step_size = step.lr / step.bias_correction.x;
    let denom = sqrt(updated.exp_avg_var / step.bias_correction.y) + hyper.eps;
    let decay = (step.lr * step.weight_decay) * old.param;
    // One subtraction: separate ones could each round in the same direction at every step.
    updated.param = old.param - (decay + step_size * (updated.exp_avg / denom));
    return updated;
}
