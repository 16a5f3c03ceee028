// LARS (You et al. 2017, arXiv 1708.03888), as torch_optimizer.LARS or as optax.lars. Twin: src/rule/lars.rs.
//   ratio = trust_coefficient * |param| / (|grad| + weight_decay * |param| + eps), or with optax
//   ratio = trust_coefficient * |param| / (|grad + weight_decay * param| + eps)
//   SGD, with momentum or without (lars/*.wgsl), on ratio * (grad + weight_decay * param)

override optax: bool;

fn measure(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Measured {
    var measured_grad = grad;
    if optax {
        measured_grad = grad + step.weight_decay * old.param;
    }
    return Measured(old.param * old.param, measured_grad * measured_grad);
}

fn scaled_grad(param: vec4<f32>, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    let decayed = grad + step.weight_decay * param;
    let param_norm = sqrt(step.measured.param_sq);
    let grad_norm = sqrt(step.measured.grad_sq);
    let vanishes = (param_norm == vec4<f32>(0.0)) | (grad_norm == vec4<f32>(0.0));
    if optax {
        let ratio = hyper.trust_coefficient * param_norm / (grad_norm + hyper.eps);
        return select(ratio * decayed, decayed, vanishes);
    }
    let ratio = hyper.trust_coefficient * (param_norm / (grad_norm + step.weight_decay * param_norm + hyper.eps));
    return select(ratio * decayed, grad, vanishes | (step.weight_decay == vec4<f32>(0.0)));
}
