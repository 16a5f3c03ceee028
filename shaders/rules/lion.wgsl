// Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2). Twin: src/rule/lion.rs.
//   param *= 1 - lr * weight_decay
//   param -= lr * sign(beta1 * exp_avg + (1 - beta1) * grad), with sign(0) = 0
//   exp_avg = beta2 * exp_avg + (1 - beta2) * grad
// cautious (Liang et al. 2024, arXiv 2411.16085): no update where it is not of the gradient's sign
// cautious_weight_decay (Chen et al. 2025, arXiv 2510.12402): no decay where the update leads away from 0

override cautious: bool;
override cautious_weight_decay: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {
    var updated = old;
    let interpolated = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * grad;
    var direction = sign_of(interpolated);
    if cautious {
        direction = direction * vec4<f32>(agree(interpolated, grad));
    }
    var decay = step.lr * step.weight_decay;
    if cautious_weight_decay {
        decay = select(decay, vec4<f32>(0.0), agree(-interpolated, old.param));
    }
    // 1 - lr * weight_decay would round the same way at every step, and the errors would add up.
    updated.param = old.param - decay * old.param;
    updated.param = updated.param - step.lr * direction;
    updated.exp_avg = hyper.beta2 * old.exp_avg + hyper.one_minus_beta2 * grad;
    return updated;
}

// Whether the update goes where the gradient alone would: the sign agreement.
fn count(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<bool> {
    let interpolated = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * grad;
    return agree(interpolated, grad);
}
