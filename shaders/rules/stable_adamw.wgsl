// StableAdamW (Wortsman et al. 2023, arXiv 2304.13013; optimi.StableAdamW).
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad^2
//   root = sqrt(exp_avg_sq) / sqrt(1 - beta2^t)
//   lr = lr / max(1, sqrt(mean((grad / max(root, eps))^2)))
//   param *= 1 - lr * weight_decay
//   param -= lr / (1 - beta1^t) * exp_avg / (root + eps)

import package::rule::math::{lerp, maximum};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper, SegmentSums};

fn second_moment(old: Element, grad: vec4<f32>, hyper: Hyper) -> vec4<f32> {
    return lerp(old.exp_avg_sq, grad * grad, hyper.beta2, hyper.one_minus_beta2);
}

fn root(exp_avg_sq: vec4<f32>, step: StepScalars) -> vec4<f32> {
    return sqrt(exp_avg_sq) / sqrt(step.bias_correction.y);
}

fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums {
    let divisor = maximum(root(second_moment(old, grad, hyper), step), vec4<f32>(hyper.eps));
    // With an eps of 0, avoids 0 / 0 for an element whose gradients were all 0: NaN would spread to its whole segment.
    let ratio = select(grad / divisor, vec4<f32>(0.0), divisor == vec4<f32>(0.0));
    return SegmentSums(ratio * ratio, vec4<f32>(1.0));
}

fn stable_lr(step: StepScalars) -> vec4<f32> {
    let rms = sqrt(step.sums.ratio_sq / step.sums.count);
    return step.lr / maximum(rms, vec4<f32>(1.0));
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let lr = stable_lr(step);
    updated.exp_avg = lerp(old.exp_avg, grad, hyper.beta1, hyper.one_minus_beta1);
    updated.exp_avg_sq = second_moment(old, grad, hyper);
    let denom = root(updated.exp_avg_sq, step) + hyper.eps;
    let decay = (lr * step.weight_decay) * old.param;
    let change = (lr / step.bias_correction.x) * (updated.exp_avg / denom);
    // One subtraction: separate ones could each round in the same direction at every step.
    updated.param = old.param - (decay + change);
    return updated;
}
