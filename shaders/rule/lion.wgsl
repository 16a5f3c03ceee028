// Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2). Twin: src/rule/lion.rs.
//   param *= 1 - lr * weight_decay
//   param -= lr * sign(beta1 * exp_avg + (1 - beta1) * grad), with sign(0) = 0
//   exp_avg = beta2 * exp_avg + (1 - beta2) * grad

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {
    var updated = old;
    let interpolated = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * grad;
    // 1 - lr * weight_decay would round the same way at every step, and the errors would add up.
    updated.param = old.param - (step.lr * step.weight_decay) * old.param;
    updated.param = updated.param - step.lr * sign_of(interpolated);
    updated.exp_avg = hyper.beta2 * old.exp_avg + hyper.one_minus_beta2 * grad;
    return updated;
}
