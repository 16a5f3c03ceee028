// AdEMAMix (Pagliardini et al. 2024, arXiv 2409.03137; optax.contrib.ademamix). Twin: src/rule/ademamix.rs.
//   param *= 1 - lr * weight_decay
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_slow = beta3_t * exp_avg_slow + (1 - beta3_t) * grad
//   exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad^2
//   param -= lr * (exp_avg / (1 - beta1^t) + alpha_t * exp_avg_slow) / (sqrt(exp_avg_sq / (1 - beta2^t)) + eps)
//   alpha_t = min(t * alpha / t_alpha, alpha)
// `one_minus_slow_beta` is 1 - beta3_t (ademamix/*.wgsl).

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {
    var updated = old;
    let one_minus_beta3 = one_minus_slow_beta(hyper, f32(step.t));
    updated.exp_avg = average(old.exp_avg, grad, hyper.beta1, hyper.one_minus_beta1);
    updated.exp_avg_slow = average(old.exp_avg_slow, grad, 1.0 - one_minus_beta3, one_minus_beta3);
    updated.exp_avg_sq = average(old.exp_avg_sq, grad * grad, hyper.beta2, hyper.one_minus_beta2);
    let alpha = min(f32(step.t) * hyper.alpha_per_step, hyper.alpha);
    let mixed = updated.exp_avg / step.bias_correction.x + alpha * updated.exp_avg_slow;
    let denom = sqrt(updated.exp_avg_sq / step.bias_correction.y) + hyper.eps;
    let decay = (step.lr * step.weight_decay) * old.param;
    // One difference: decay and update alone may each round the same way at every step, and the errors would add up.
    updated.param = old.param - (decay + step.lr * (mixed / denom));
    return updated;
}
