// NovoGrad (Ginsburg et al. 2019, arXiv 1905.11286; torch_optimizer.NovoGrad, optax.novograd).
// Twin: src/rule/novograd.rs.
//   per tensor: exp_avg_sq = |grad|^2 in step 1, then beta2 * exp_avg_sq + (1 - beta2) * |grad|^2
//   exp_avg = beta1 * exp_avg + share * (grad / (sqrt(exp_avg_sq) + eps) + weight_decay * param)
//   param -= lr * exp_avg, with a share of 1, or 1 - beta1

fn measure(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Measured {
    return Measured(grad * grad);
}

fn settle(
    old: TensorState,
    measured: Measured,
    lr: f32,
    hyper: Hyper,
    bias_correction: vec4<f32>,
    t: u32,
) -> TensorState {
    var settled = old;
    let averaged = average(old.exp_avg_sq, measured.grad_sq, hyper.beta2, hyper.one_minus_beta2);
    settled.exp_avg_sq = select(averaged, measured.grad_sq, t == 1u);
    return settled;
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let denom = sqrt(step.tensor.exp_avg_sq) + hyper.eps;
    let normalized = grad / denom + step.weight_decay * old.param;
    updated.exp_avg = hyper.beta1 * old.exp_avg + hyper.share * normalized;
    updated.param = old.param - step.lr * updated.exp_avg;
    return updated;
}
