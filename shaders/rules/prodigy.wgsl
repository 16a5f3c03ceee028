// Prodigy (Mishchenko & Defazio 2023, arXiv 2306.06101; prodigyopt.Prodigy). Twin: src/rule/prodigy.rs.
//   without decouple: grad += weight_decay * param
//   dlr = d * lr, with use_bias_correction * sqrt(1 - beta2^t) / (1 - beta1^t)
//   exp_avg = beta1 * exp_avg + (1 - beta1) * d * grad
//   exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * (d * grad)^2
//   s = beta3 * s + d / d0 * dlr * grad, with safeguard_warmup d / d0 * d * grad
//   over all tensors: d_numerator = beta3 * d_numerator + d / d0 * dlr * sum(grad * (p0 - param))
//     d_max = max(d_max, d_coef * d_numerator / sum(|s|)), new d = min(d_max, d * growth_rate)
//   with decouple: param -= dlr * weight_decay * param
//   param -= dlr * exp_avg / (sqrt(exp_avg_sq) + new d * eps)

override decouple: bool;
override use_bias_correction: bool;
override safeguard_warmup: bool;
override limited_growth: bool;

fn decayed_grad(old: Element, grad: vec4<f32>, step: StepScalars) -> vec4<f32> {
    if decouple {
        return grad;
    }
    return grad + step.weight_decay * old.param;
}

fn adapted_lr(d: vec4<f32>, step: StepScalars) -> vec4<f32> {
    if use_bias_correction {
        return (d * step.lr) * (sqrt(step.bias_correction.y) / step.bias_correction.x);
    }
    return d * step.lr;
}

fn first_param(old: Element, step: StepScalars) -> vec4<f32> {
    return select(old.p0, old.param, step.t == 1u);
}

fn weighted_sum(s: vec4<f32>, decayed: vec4<f32>, d: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    var weight = d / hyper.d0 * adapted_lr(d, step);
    if safeguard_warmup {
        weight = d / hyper.d0 * d;
    }
    return average(s, vec4<f32>(0.0), hyper.beta3, hyper.one_minus_beta3) + weight * decayed;
}

fn measure(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Measured {
    let d = step.tensor.d;
    let decayed = decayed_grad(old, grad, step);
    let weight = d / hyper.d0 * adapted_lr(d, step);
    let numerator = weight * (decayed * (first_param(old, step) - old.param));
    let s = weighted_sum(old.s, decayed, d, hyper, step);
    let idle = step.lr == vec4<f32>(0.0);
    return Measured(select(numerator, vec4<f32>(0.0), idle), select(abs(s), vec4<f32>(0.0), idle));
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
    let remaining = average(old.d_numerator, vec4<f32>(0.0), hyper.beta3, hyper.one_minus_beta3);
    let d_numerator = remaining + measured.numerator;
    let d_hat = hyper.d_coef * d_numerator / measured.s_norm;
    // `max` would give NaN a number.
    // equivalent(boundary): where both are the same, so is what is chosen
    let d_max = select(old.d_max, d_hat, d_hat > old.d_max);
    var d = d_max;
    if limited_growth {
        // equivalent(boundary): where both are the same, so is what is chosen
        let risen = select(old.d, d_hat, (old.d == vec4<f32>(hyper.d0)) & (d_hat > old.d));
        // As a sum, because the rounding of the rate would add up.
        let limit = risen + risen * hyper.growth_rate_minus_one;
        // equivalent(boundary): as above
        d = select(d_max, limit, limit < d_max);
    }
    let idle = measured.s_norm == vec4<f32>(0.0);
    settled.d = select(d, old.d, idle);
    settled.d_max = select(d_max, old.d_max, idle);
    settled.d_numerator = select(d_numerator, old.d_numerator, idle);
    settled.previous_d = old.d;
    return settled;
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    let d = step.tensor.previous_d;
    let dlr = adapted_lr(d, step);
    let decayed = decayed_grad(old, grad, step);
    let scaled = d * decayed;
    let exp_avg = average(old.exp_avg, scaled, hyper.beta1, hyper.one_minus_beta1);
    let exp_avg_sq = average(old.exp_avg_sq, scaled * scaled, hyper.beta2, hyper.one_minus_beta2);
    let s = weighted_sum(old.s, decayed, d, hyper, step);
    var param = old.param;
    if decouple {
        param = old.param - (dlr * step.weight_decay) * old.param;
    }
    let denom = sqrt(exp_avg_sq) + step.tensor.d * hyper.eps;
    param = param - dlr * (exp_avg / denom);

    let idle = step.lr == vec4<f32>(0.0);
    var updated = old;
    updated.exp_avg = select(exp_avg, old.exp_avg, idle);
    updated.exp_avg_sq = select(exp_avg_sq, old.exp_avg_sq, idle);
    updated.s = select(s, old.s, idle);
    updated.p0 = first_param(old, step);
    updated.param = select(param, old.param, idle | (step.measured.s_norm == vec4<f32>(0.0)));
    return updated;
}
