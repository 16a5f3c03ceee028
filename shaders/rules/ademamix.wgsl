// AdEMAMix (Pagliardini et al. 2024, arXiv 2409.03137; optax.contrib.ademamix).
//   param *= 1 - lr * weight_decay
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_slow = beta3_t * exp_avg_slow + (1 - beta3_t) * grad
//   exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad^2
//   param -= lr * (exp_avg / (1 - beta1^t) + alpha_t * exp_avg_slow) / (sqrt(exp_avg_sq / (1 - beta2^t)) + eps)
//   alpha_t = min(t * alpha / t_alpha, alpha)
//   beta3_t = beta3
// beta3_warmup: beta3_t = exp(ln beta1 ln beta3 / ((1 - s) ln beta3 + s ln beta1)) with s = min(t / t_beta3, 1)

import package::rule::math::{lerp};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override beta3_warmup: bool;

// 1 - beta3_t. During warm-up (paper, section 3), the half-life grows linearly from that of beta1 to that of beta3.
// With beta3_t = e^-z: 1 - e^-z = z (1 - z/2 (1 - z/3 (1 - ...))). As z <= ln 2, the omitted terms are below 1e-8.
fn one_minus_slow_beta(hyper: Hyper, t: f32) -> f32 {
    if !beta3_warmup {
        return hyper.one_minus_beta3;
    }
    let z = hyper.half_lives / ((hyper.t_beta3 - t) * hyper.minus_ln_beta3 + t * hyper.minus_ln_beta1);
    var series = 1.0;
    for (var k = 9u; k > 1u; k--) {
        series = 1.0 - (z / f32(k)) * series;
    }
    // equivalent(>): both are 1 - beta3 at the end of the warm-up
    return select(z * series, hyper.one_minus_beta3, t >= hyper.t_beta3);
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let one_minus_beta3 = one_minus_slow_beta(hyper, f32(step.t));
    updated.exp_avg = lerp(old.exp_avg, grad, hyper.beta1, hyper.one_minus_beta1);
    updated.exp_avg_slow = lerp(old.exp_avg_slow, grad, 1.0 - one_minus_beta3, one_minus_beta3);
    updated.exp_avg_sq = lerp(old.exp_avg_sq, grad * grad, hyper.beta2, hyper.one_minus_beta2);
    let alpha = min(f32(step.t) * hyper.alpha_per_step, hyper.alpha);
    let mixed = updated.exp_avg / step.bias_correction.x + alpha * updated.exp_avg_slow;
    let denom = sqrt(updated.exp_avg_sq / step.bias_correction.y) + hyper.eps;
    let decay = (step.lr * step.weight_decay) * old.param;
    // One subtraction: separate ones could each round in the same direction at every step.
    updated.param = old.param - (decay + step.lr * (mixed / denom));
    return updated;
}
