// Adan (Xie et al. 2022, arXiv 2208.06677; sail-sg/Adan, timm.optim.Adan).
//   diff = grad - previous grad, 0 at the first step
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_diff = beta2 * exp_avg_diff + (1 - beta2) * diff
//   exp_avg_sq = beta3 * exp_avg_sq + (1 - beta3) * (grad + diff_weight * diff)^2
//   update = (exp_avg / (1 - beta1^t) + diff_weight * exp_avg_diff / (1 - beta2^t))
//            / (sqrt(exp_avg_sq / (1 - beta3^t) + eps_root) + eps)
//   param = (param - lr * update) / (1 + lr * weight_decay)
// no_prox: param *= 1 - lr * weight_decay; param -= lr * update
// diff_weight is beta2, or 1 - beta2 in optax.
// cautious (Liang et al. 2024, arXiv 2411.16085; timm): replaces exp_avg by 0 where exp_avg * grad <= 0
// cautious_weight_decay (Chen et al. 2025, arXiv 2510.12402): no decay where the update moves the parameter away from 0

import package::rule::math::{lerp, same_sign};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override no_prox: bool;
override cautious: bool;
override cautious_weight_decay: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let diff = select(grad + old.neg_pre_grad, vec4<f32>(0.0), step.is_first);
    updated.exp_avg = lerp(old.exp_avg, grad, hyper.beta1, hyper.one_minus_beta1);
    updated.exp_avg_diff = lerp(old.exp_avg_diff, diff, hyper.beta2, hyper.one_minus_beta2);
    let lookahead = grad + hyper.diff_weight * diff;
    updated.exp_avg_sq = lerp(old.exp_avg_sq, lookahead * lookahead, hyper.beta3, hyper.one_minus_beta3);
    updated.neg_pre_grad = -grad;
    var momentum = updated.exp_avg / step.bias_correction.x;
    let change = hyper.diff_weight * (updated.exp_avg_diff / step.bias_correction.y);
    let denom = sqrt(updated.exp_avg_sq / step.bias_correction.z + hyper.eps_root) + hyper.eps;
    var decay = step.lr * step.weight_decay;
    if cautious_weight_decay {
        decay = select(decay, vec4<f32>(0.0), same_sign(-(momentum + change), old.param));
    }
    if cautious {
        momentum = momentum * vec4<f32>(same_sign(updated.exp_avg, grad));
    }
    var change_of_param = decay * old.param + step.lr * ((momentum + change) / denom);
    if !no_prox {
        change_of_param = change_of_param / (1.0 + decay);
    }
    // One subtraction: separate ones could each round in the same direction at every step.
    updated.param = old.param - change_of_param;
    return updated;
}
