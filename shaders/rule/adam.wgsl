// Adam (Kingma & Ba 2015, arXiv 1412.6980; torch.optim.Adam) and AdamW (Loshchilov & Hutter 2019,
// arXiv 1711.05101; torch.optim.AdamW). Twin: src/rule/adam.rs.
//   Adam: grad += weight_decay * param; AdamW: param *= 1 - lr * weight_decay
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad^2
//   param -= lr / (1 - beta1^t) * exp_avg / (sqrt(exp_avg_sq) / sqrt(1 - beta2^t) + eps)
// `second_moment` is exp_avg_sq, or with AMSGrad its maximum (adam/*.wgsl).

override decoupled_weight_decay: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {
    var updated = old;
    var decayed = grad;
    if decoupled_weight_decay {
        // 1 - lr * weight_decay would round the same way at every step, and the errors would add up.
        updated.param = old.param - (step.lr * step.weight_decay) * old.param;
    } else {
        decayed = grad + step.weight_decay * old.param;
    }
    updated.exp_avg = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * decayed;
    updated.exp_avg_sq = hyper.beta2 * old.exp_avg_sq + hyper.one_minus_beta2 * (decayed * decayed);
    let step_size = step.lr / step.bias_correction.x;
    let denom = sqrt(second_moment(&updated)) / sqrt(step.bias_correction.y) + hyper.eps;
    updated.param = updated.param - step_size * (updated.exp_avg / denom);
    return updated;
}
