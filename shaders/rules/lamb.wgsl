// LAMB (You et al. 2020, arXiv 1904.00962; apex's FusedLAMB, optax.lamb).
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad^2
//   update = exp_avg / (1 - beta1^t) / (sqrt(exp_avg_sq) / sqrt(1 - beta2^t) + eps) + weight_decay * param
//   param -= lr * |param| / |update| * update

import package::rule::math::{lerp};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper, SegmentSums};

// Whether the trust ratio also applies to tensors without weight decay.
override nvlamb: bool;
override limited: bool;

fn moments(old: Element, grad: vec4<f32>, hyper: Hyper) -> Element {
    var updated = old;
    updated.exp_avg = lerp(old.exp_avg, grad, hyper.beta1, hyper.one_minus_beta1);
    updated.exp_avg_sq = lerp(old.exp_avg_sq, grad * grad, hyper.beta2, hyper.one_minus_beta2);
    return updated;
}

fn direction(updated: Element, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    let denom = sqrt(updated.exp_avg_sq) / sqrt(step.bias_correction.y) + hyper.eps;
    return (updated.exp_avg / step.bias_correction.x) / denom + step.weight_decay * updated.param;
}

fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums {
    let update = direction(moments(old, grad, hyper), hyper, step);
    return SegmentSums(old.param * old.param, update * update);
}

fn trust_ratio(hyper: Hyper, step: StepScalars) -> vec4<f32> {
    let param_norm = sqrt(step.sums.param_sq);
    let update_norm = sqrt(step.sums.update_sq);
    var ratio = param_norm / update_norm;
    if limited {
        // `clamp` could replace NaN by a limit.
        // equivalent(>=): replaces the limit by the same value
        ratio = select(ratio, vec4<f32>(hyper.max_ratio), ratio > vec4<f32>(hyper.max_ratio));
        // equivalent(<=): replaces the limit by the same value
        ratio = select(ratio, vec4<f32>(hyper.min_ratio), ratio < vec4<f32>(hyper.min_ratio));
    }
    let vanishes = (param_norm == vec4<f32>(0.0)) | (update_norm == vec4<f32>(0.0));
    let plain = vec4<bool>(!nvlamb) & (step.weight_decay == vec4<f32>(0.0));
    return select(ratio, vec4<f32>(1.0), vanishes | plain);
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = moments(old, grad, hyper);
    let update = direction(updated, hyper, step);
    updated.param = old.param - (step.lr * trust_ratio(hyper, step)) * update;
    return updated;
}
