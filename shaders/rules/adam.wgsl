// Adam (Kingma & Ba 2015, arXiv 1412.6980; torch.optim.Adam) and AdamW (Loshchilov & Hutter 2019,
// arXiv 1711.05101; torch.optim.AdamW).
//   Adam: grad += weight_decay * param; AdamW: param *= 1 - lr * weight_decay
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad^2
//   param -= lr / (1 - beta1^t) * exp_avg / (sqrt(exp_avg_sq) / sqrt(1 - beta2^t) + eps)
// `second_moment` is that of adam/second_moment.wgsl, or of adam/row_second_moment.wgsl, which the rule adds.
// Variants:
//   amsgrad (Reddi et al. 2018, arXiv 1904.09237): uses the maximum of exp_avg_sq so far
//   corrected_max (optax): with amsgrad, uses the maximum of exp_avg_sq / (1 - beta2^t) so far
//   eps_hat (Keras): lr * sqrt(1 - beta2^t) / (1 - beta1^t) * exp_avg / (sqrt(exp_avg_sq) + eps)
//   corrected_root (optax): the denominator is sqrt(exp_avg_sq / (1 - beta2^t) + eps_root) + eps
//   decay_after (bitsandbytes on CUDA): decays the updated parameter
//   decouple_lr (optimi): param *= 1 - lr / max_lr * weight_decay
//   cautious (Liang et al. 2024, arXiv 2411.16085): no update where exp_avg * grad <= 0
//   cautious_weight_decay (Chen et al. 2025, arXiv 2510.12402): no decay where exp_avg * param < 0

import package::rule::math::{maximum, same_sign};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override decoupled_weight_decay: bool;
override decay_after: bool;
override decouple_lr: bool;
override eps_hat: bool;
override amsgrad: bool;
override corrected_max: bool;
override corrected_root: bool;
override cautious: bool;
override cautious_weight_decay: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    var decayed = grad;
    if !decoupled_weight_decay {
        decayed = grad + step.weight_decay * old.param;
    }
    updated.exp_avg = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * decayed;
    updated.exp_avg_sq = second_moment(old, decayed, hyper);
    var moment = updated.exp_avg_sq;
    if amsgrad {
        if corrected_max {
            moment = moment / step.bias_correction.y;
        }
        updated.max_exp_avg_sq = maximum(old.max_exp_avg_sq, moment);
        moment = updated.max_exp_avg_sq;
    }
    var step_size = step.lr / step.bias_correction.x;
    var denom: vec4<f32>;
    if eps_hat {
        step_size = (step.lr * sqrt(step.bias_correction.y)) / step.bias_correction.x;
        denom = sqrt(moment) + hyper.eps;
    } else if corrected_root {
        if !corrected_max {
            moment = moment / step.bias_correction.y;
        }
        denom = sqrt(moment + hyper.eps_root) + hyper.eps;
    } else {
        // One division of scalars in place of one per element.
        denom = sqrt(moment) * (1.0 / sqrt(step.bias_correction.y)) + hyper.eps;
    }
    var change = step_size * (updated.exp_avg / denom);
    if cautious {
        change = change * vec4<f32>(same_sign(updated.exp_avg, decayed));
    }
    if !decoupled_weight_decay {
        updated.param = old.param - change;
        return updated;
    }
    var rate = step.lr;
    if decouple_lr {
        rate = step.lr / hyper.max_lr;
    }
    var decay = rate * step.weight_decay;
    if cautious_weight_decay {
        decay = select(decay, vec4<f32>(0.0), same_sign(-updated.exp_avg, old.param));
    }
    // Subtracts the decay: the factor 1 - lr * weight_decay would round in the same direction at every step.
    if decay_after {
        updated.param = old.param - change;
        updated.param = updated.param - decay * updated.param;
    } else {
        updated.param = (old.param - decay * old.param) - change;
    }
    return updated;
}
