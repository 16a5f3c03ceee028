// Adafactor (Shazeer & Stern 2018, arXiv 1804.04235; torch.optim.Adafactor).
//   1 - beta2 = t^beta2_decay; rho = min(lr, 1 / sqrt(t)); alpha = max(eps2, RMS(param)) * rho
//   row_var = beta2 * row_var + (1 - beta2) * mean(grad^2) over each row, and col_var over each column
//   variance = row_var * col_var / max(mean(row_var), eps1); for vectors beta2 * variance + (1 - beta2) * grad^2
//   update = grad / max(sqrt(variance), eps1)
//   param *= 1 - lr * weight_decay
//   param -= alpha / max(1, RMS(update) / d) * update
// eps_in_squares (the paper, optax): means of grad^2 + eps1; the minimum of root and mean is the smallest normal number
// constant_rho (optax): rho = lr; decay_without_lr (optax): param *= 1 - weight_decay

import package::rule::math::{lerp};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper, ScalarState, SegmentSums};

override constant_rho: bool;
override decay_without_lr: bool;

// t^beta2_decay, with t as a mantissa from 1 to 2 times a power of two. The mantissa's power is a binomial series
// around 1.25 or 1.75. The other factor is a product over the bits of the exponent.
fn update_scalars(old: ScalarState, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> ScalarState {
    var updated = old;
    let bits = bitcast<u32>(f32(t));
    let mantissa = bitcast<f32>((bits & 0x7fffffu) | 0x3f800000u);
    let exponent = (bits >> 23u) - 127u;
    // equivalent(boundary): both series are equally accurate at 1.5
    let upper = mantissa >= 1.5;
    let center = select(1.25, 1.75, upper);
    let distance = (mantissa - center) / center;
    var series = 1.0;
    for (var i = 12u; i > 0u; i--) {
        series = 1.0 + (hyper.beta2_decay - f32(i - 1u)) / f32(i) * distance * series;
    }
    var power = series * select(hyper.power_of_lower, hyper.power_of_upper, upper);
    power = power * select(1.0, hyper.power_of_2_1, (exponent & 1u) != 0u);
    power = power * select(1.0, hyper.power_of_2_2, (exponent & 2u) != 0u);
    power = power * select(1.0, hyper.power_of_2_4, (exponent & 4u) != 0u);
    power = power * select(1.0, hyper.power_of_2_8, (exponent & 8u) != 0u);
    power = power * select(1.0, hyper.power_of_2_16, (exponent & 16u) != 0u);
    updated.one_minus_beta2 = power;
    updated.greatest_rho = 1.0 / sqrt(f32(t));
    return updated;
}

fn update_factor(old: f32, mean_sq: f32, hyper: Hyper, scalar_state: ScalarState, t: u32) -> f32 {
    let beta2 = 1.0 - scalar_state.one_minus_beta2;
    return lerp(vec4<f32>(old), vec4<f32>(mean_sq + hyper.eps_of_squares), beta2, scalar_state.one_minus_beta2).x;
}

fn floor_mean(mean: f32, hyper: Hyper) -> f32 {
    // `max` could replace NaN by a number.
    // equivalent(boundary): equal numbers
    return select(mean, hyper.least_root, mean < hyper.least_root);
}

fn direction(old: Element, grad: vec4<f32>, hyper: Hyper) -> vec4<f32> {
    let root = sqrt(old.variance);
    // equivalent(boundary): equal numbers
    return grad / select(root, vec4<f32>(hyper.least_root), root < vec4<f32>(hyper.least_root));
}

fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums {
    let update = direction(old, grad, hyper);
    return SegmentSums(old.param * old.param, update * update, vec4<f32>(1.0));
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    var rho = step.lr;
    if !constant_rho {
        rho = min(step.lr, vec4<f32>(step.scalar_state.greatest_rho));
    }
    let param_rms = sqrt(step.sums.param_sq / step.sums.count);
    // equivalent(boundary): equal numbers
    let alpha = select(param_rms, vec4<f32>(hyper.eps2), param_rms < vec4<f32>(hyper.eps2)) * rho;
    let excess = sqrt(step.sums.update_sq / step.sums.count) / hyper.d;
    // equivalent(boundary): equal numbers
    let denom = select(excess, vec4<f32>(1.0), excess < vec4<f32>(1.0));
    var decay = step.weight_decay;
    if !decay_without_lr {
        decay = step.lr * step.weight_decay;
    }
    let decayed = old.param - decay * old.param;
    updated.param = decayed - (alpha / denom) * direction(old, grad, hyper);
    return updated;
}
