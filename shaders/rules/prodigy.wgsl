// Prodigy (Mishchenko & Defazio 2023, arXiv 2306.06101; prodigyopt.Prodigy).
//   without decouple: grad += weight_decay * param
//   dlr = d * lr; use_bias_correction: dlr = d * lr * sqrt(1 - beta2^t) / (1 - beta1^t)
//   exp_avg = beta1 * exp_avg + (1 - beta1) * d * grad
//   exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * (d * grad)^2
//   s = beta3 * s + d / d0 * dlr * grad; safeguard_warmup: s = beta3 * s + d / d0 * d * grad
//   over all tensors: d_numerator = beta3 * d_numerator + d / d0 * dlr * sum(grad * (p0 - param))
//     d_max = max(d_max, d_coef * d_numerator / sum(|s|)), new d = min(d_max, d * growth_rate)
//   with decouple: param -= dlr * weight_decay * param
//   param -= dlr * exp_avg / (sqrt(exp_avg_sq) + new d * eps)

import package::rule::math::{lerp};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper, SegmentSums, TensorState};

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
    return select(old.p0, old.param, step.is_first);
}

fn weighted_sum(s: vec4<f32>, decayed: vec4<f32>, d: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    var weight = d / hyper.d0 * adapted_lr(d, step);
    if safeguard_warmup {
        weight = d / hyper.d0 * d;
    }
    return lerp(s, vec4<f32>(0.0), hyper.beta3, hyper.one_minus_beta3) + weight * decayed;
}

fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums {
    let d = step.tensor_state.d;
    let decayed = decayed_grad(old, grad, step);
    let weight = d / hyper.d0 * adapted_lr(d, step);
    let numerator = weight * (decayed * (first_param(old, step) - old.param));
    let s = weighted_sum(old.s, decayed, d, hyper, step);
    let idle = step.lr == vec4<f32>(0.0);
    return SegmentSums(select(numerator, vec4<f32>(0.0), idle), select(abs(s), vec4<f32>(0.0), idle));
}

fn update_tensor_state(
    old: TensorState,
    sums: SegmentSums,
    lr: f32,
    hyper: Hyper,
    bias_correction: vec4<f32>,
    t: u32,
    is_first: bool,
) -> TensorState {
    var updated = old;
    let remaining = lerp(old.d_numerator, vec4<f32>(0.0), hyper.beta3, hyper.one_minus_beta3);
    let d_numerator = remaining + sums.numerator;
    let d_hat = hyper.d_coef * d_numerator / sums.s_norm;
    // `max` could replace NaN by a number.
    // equivalent(boundary): equal numbers
    let d_max = select(old.d_max, d_hat, d_hat > old.d_max);
    var d = d_max;
    if limited_growth {
        // equivalent(boundary): equal numbers
        let risen = select(old.d, d_hat, (old.d == vec4<f32>(hyper.d0)) & (d_hat > old.d));
        // Adds growth_rate - 1 as a separate term: rounding growth_rate itself would accumulate.
        let limit = risen + risen * hyper.growth_rate_minus_one;
        // equivalent(boundary): equal numbers
        d = select(d_max, limit, limit < d_max);
    }
    let idle = sums.s_norm == vec4<f32>(0.0);
    updated.d = select(d, old.d, idle);
    updated.d_max = select(d_max, old.d_max, idle);
    updated.d_numerator = select(d_numerator, old.d_numerator, idle);
    updated.previous_d = old.d;
    return updated;
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    let d = step.tensor_state.previous_d;
    let dlr = adapted_lr(d, step);
    let decayed = decayed_grad(old, grad, step);
    let scaled = d * decayed;
    let exp_avg = lerp(old.exp_avg, scaled, hyper.beta1, hyper.one_minus_beta1);
    let exp_avg_sq = lerp(old.exp_avg_sq, scaled * scaled, hyper.beta2, hyper.one_minus_beta2);
    let s = weighted_sum(old.s, decayed, d, hyper, step);
    var param = old.param;
    if decouple {
        param = old.param - (dlr * step.weight_decay) * old.param;
    }
    let denom = sqrt(exp_avg_sq) + step.tensor_state.d * hyper.eps;
    param = param - dlr * (exp_avg / denom);

    let idle = step.lr == vec4<f32>(0.0);
    var updated = old;
    updated.exp_avg = select(exp_avg, old.exp_avg, idle);
    updated.exp_avg_sq = select(exp_avg_sq, old.exp_avg_sq, idle);
    updated.s = select(s, old.s, idle);
    updated.p0 = first_param(old, step);
    updated.param = select(param, old.param, idle | (step.sums.s_norm == vec4<f32>(0.0)));
    return updated;
}
