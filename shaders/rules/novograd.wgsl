// NovoGrad (Ginsburg et al. 2019, arXiv 1905.11286; torch_optimizer.NovoGrad, optax.novograd).
//   per tensor: exp_avg_sq = |grad|^2 in step 1, then beta2 * exp_avg_sq + (1 - beta2) * |grad|^2
//   exp_avg = beta1 * exp_avg + share * (grad / (sqrt(exp_avg_sq) + eps) + weight_decay * param)
//   param -= lr * exp_avg
// share is 1, or 1 - beta1 with grad_averaging.

import package::rule::math::{lerp};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper, SegmentSums, TensorState};

fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums {
    return SegmentSums(grad * grad);
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
    let averaged = lerp(old.exp_avg_sq, sums.grad_sq, hyper.beta2, hyper.one_minus_beta2);
    updated.exp_avg_sq = select(averaged, sums.grad_sq, is_first);
    return updated;
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let denom = sqrt(step.tensor_state.exp_avg_sq) + hyper.eps;
    let normalized = grad / denom + step.weight_decay * old.param;
    updated.exp_avg = hyper.beta1 * old.exp_avg + hyper.share * normalized;
    updated.param = old.param - step.lr * updated.exp_avg;
    return updated;
}
