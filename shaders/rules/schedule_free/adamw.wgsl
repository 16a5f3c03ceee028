// exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad^2; grad / (sqrt(exp_avg_sq / (1 - beta2^t)) + eps)
fn gradient(updated: ptr<function, Element>, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    (*updated).exp_avg_sq = hyper.beta2 * (*updated).exp_avg_sq + hyper.one_minus_beta2 * (grad * grad);
    return grad / (sqrt((*updated).exp_avg_sq / step.bias_correction.x) + hyper.eps);
}
