// Signum, SignSGD with momentum (Bernstein et al. 2018, arXiv 1802.04434; optax.signum). Twin: src/rule/signsgd.rs.
//   param *= 1 - lr * weight_decay
//   momentum_buffer = momentum * momentum_buffer + (1 - momentum) * grad
//   param -= lr * sign(momentum_buffer), with sign(0) = 0

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    updated.momentum_buffer = average(old.momentum_buffer, grad, hyper.momentum, hyper.one_minus_momentum);
    let decay = (step.lr * step.weight_decay) * old.param;
    // One difference: decay and update alone may each round the same way at every step, and the errors would add up.
    updated.param = old.param - (decay + step.lr * sign_of(updated.momentum_buffer));
    return updated;
}
