// Adamax (Kingma & Ba 2015, arXiv 1412.6980, section 7.1; torch.optim.Adamax).
//   grad += weight_decay * param, or decoupled: param *= 1 - lr * weight_decay
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_inf = max(beta2 * exp_inf, |grad| + eps)
//   param -= lr / (1 - beta1^t) * exp_avg / exp_inf

import package::rule::math::{maximum};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override decoupled_weight_decay: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    var decay = vec4<f32>(0.0);
    var decayed = grad;
    if decoupled_weight_decay {
        decay = (step.lr * step.weight_decay) * old.param;
    } else {
        decayed = grad + step.weight_decay * old.param;
    }
    updated.exp_avg = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * decayed;
    updated.exp_inf = maximum(hyper.beta2 * old.exp_inf, abs(decayed) + hyper.eps);
    let step_size = step.lr / step.bias_correction.x;
    updated.param = old.param - (decay + step_size * (updated.exp_avg / updated.exp_inf));
    return updated;
}
