// SignSGD (Bernstein et al. 2018, arXiv 1802.04434; optax.sign_sgd). Twin: src/rule/signsgd.rs.
//   param *= 1 - lr * weight_decay; param -= lr * sign(grad), with sign(0) = 0

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let decay = (step.lr * step.weight_decay) * old.param;
    // One difference: decay and update alone may each round the same way at every step, and the errors would add up.
    updated.param = old.param - (decay + step.lr * sign_of(grad));
    return updated;
}
