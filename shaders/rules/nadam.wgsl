// NAdam (Dozat 2016, "Incorporating Nesterov Momentum into Adam"; torch.optim.NAdam).
//   mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2)
//   grad += weight_decay * param, or decoupled: param *= 1 - lr * weight_decay
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad^2
//   denom = sqrt(exp_avg_sq / (1 - beta2^t)) + eps
//   param -= lr * (1 - mu_t) / (1 - mu_1 ... mu_t) * grad / denom
//   param -= lr * mu_(t+1) / (1 - mu_1 ... mu_(t+1)) * exp_avg / denom
// constant_momentum (optax): mu_t = beta1; denom = sqrt(exp_avg_sq / (1 - beta2^t) + eps_root) + eps
// cautious (Liang et al. 2024, arXiv 2411.16085): no update where its sign differs from the gradient's
// cautious_weight_decay (Chen et al. 2025, arXiv 2510.12402): no decay where the update moves the parameter away from 0

import package::rule::math::{same_sign};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper, ScalarState};

override decoupled_weight_decay: bool;
override cautious: bool;
override cautious_weight_decay: bool;

// Computes the weights of the gradient and of exp_avg in the update. With q = 0.96^momentum_decay, bias_correction.z is
// 1 - q^t. Every one_minus_... below is a sum of positive terms, so that nothing cancels. first_share is 1 with
// constant momentum, else 1/2; half_decay is 0 with constant momentum or without momentum decay, else 1/2.
fn update_scalars(old: ScalarState, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> ScalarState {
    let upcoming = bias_correction.z + (1.0 - bias_correction.z) * hyper.one_minus_q;
    let mu = hyper.beta1 * (hyper.first_share + hyper.half_decay * bias_correction.z);
    let mu_next = hyper.beta1 * (hyper.first_share + hyper.half_decay * upcoming);
    let one_minus_mu =
        hyper.one_minus_beta1 + hyper.beta1 * (hyper.missing_share - hyper.half_decay * bias_correction.z);
    let one_minus_mu_next =
        hyper.one_minus_beta1 + hyper.beta1 * (hyper.missing_share - hyper.half_decay * upcoming);
    var scalars = old;
    scalars.mu_product = old.mu_product * mu;
    scalars.one_minus_mu_product = old.one_minus_mu_product + old.mu_product * one_minus_mu;
    let one_minus_next_product = scalars.one_minus_mu_product + scalars.mu_product * one_minus_mu_next;
    scalars.grad_share = one_minus_mu / scalars.one_minus_mu_product;
    scalars.exp_avg_share = mu_next / one_minus_next_product;
    return scalars;
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let grad_share = step.scalar_state.grad_share;
    let exp_avg_share = step.scalar_state.exp_avg_share;
    var decayed = grad;
    if !decoupled_weight_decay {
        decayed = grad + step.weight_decay * old.param;
    }
    updated.exp_avg = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * decayed;
    updated.exp_avg_sq = hyper.beta2 * old.exp_avg_sq + hyper.one_minus_beta2 * (decayed * decayed);
    let denom = sqrt(updated.exp_avg_sq / step.bias_correction.y + hyper.eps_root) + hyper.eps;
    var direction = grad_share * (decayed / denom) + exp_avg_share * (updated.exp_avg / denom);
    if decoupled_weight_decay {
        // Subtracts the decay: the factor 1 - lr * weight_decay would round in the same direction at every step.
        var decay = step.lr * step.weight_decay;
        if cautious_weight_decay {
            decay = select(decay, vec4<f32>(0.0), same_sign(-direction, old.param));
        }
        updated.param = old.param - decay * old.param;
    }
    if cautious {
        direction = direction * vec4<f32>(same_sign(direction, decayed));
    }
    updated.param = updated.param - step.lr * direction;
    return updated;
}
