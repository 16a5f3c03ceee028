// RAdam (Liu et al. 2020, arXiv 1908.03265; torch.optim.RAdam).
//   grad += weight_decay * param, or decoupled: param *= 1 - lr * weight_decay
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad^2
//   rho_inf = 2 / (1 - beta2) - 1; rho = rho_inf - 2 t beta2^t / (1 - beta2^t)
//   rho > 5: rect = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))
//            param -= lr / (1 - beta1^t) * exp_avg * rect * sqrt(1 - beta2^t) / (sqrt(exp_avg_sq) + eps)
//   else:    param -= lr / (1 - beta1^t) * exp_avg
// corrected_root (optax): the denominator is sqrt(exp_avg_sq / (1 - beta2^t) + eps_root) + eps

import package::rule::math::{lerp};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override decoupled_weight_decay: bool;
override corrected_root: bool;

// rho. While x = -t ln beta2 is small, the formula above cancels: rho_inf is large, rho about t. For small x, uses
// rho = rho_offset + (2 / -ln beta2) (1 - x / (e^x - 1)), whose Taylor series begins with t.
fn sma_length(hyper: Hyper, step: StepScalars) -> f32 {
    let t = f32(step.t);
    let x = t * hyper.minus_ln_beta2;
    let x2 = x * x;
    // The coefficient 691 / 653837184000, reduced to 9.6e-10 to compensate for the omitted terms at x = 2.
    let end = 1.0 / 23950080.0 - x2 * 9.6e-10;
    let middle = 1.0 / 15120.0 - x2 * (1.0 / 604800.0 - x2 * end);
    let series = 1.0 / 6.0 - x2 * (1.0 / 360.0 - x2 * middle);
    let early = hyper.rho_offset + t * (1.0 - x * series);
    // Computes beta2^t as the square of beta2^(t / 2): 1 - bias_correction.y would lose its low digits.
    let root = 1.0 - step.bias_correction.z;
    let late = hyper.rho_inf - 2.0 * t * (root * root / step.bias_correction.y);
    // equivalent(<): both formulas are accurate at 2
    return select(late, early, x <= 2.0);
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    var decay = vec4<f32>(0.0);
    var decayed = grad;
    if decoupled_weight_decay {
        decay = (step.lr * step.weight_decay) * old.param;
    } else {
        decayed = grad + step.weight_decay * old.param;
    }
    updated.exp_avg = lerp(old.exp_avg, decayed, hyper.beta1, hyper.one_minus_beta1);
    updated.exp_avg_sq = lerp(old.exp_avg_sq, decayed * decayed, hyper.beta2, hyper.one_minus_beta2);
    let rho = sma_length(hyper, step);
    // equivalent(>=): rounding decides whether a rho of 5 is above it
    let adaptive = rho > 5.0;
    let rect = hyper.rect_scale * ((rho - 4.0) * (rho - 2.0) / rho);
    var step_size = step.lr / step.bias_correction.x;
    var correction = step.bias_correction.y;
    var moment = updated.exp_avg_sq;
    if corrected_root {
        moment = moment / correction + hyper.eps_root;
        correction = 1.0;
    }
    step_size = select(step_size, step_size * sqrt(rect * correction), adaptive);
    let normalized = updated.exp_avg / (sqrt(moment) + hyper.eps);
    let direction = select(updated.exp_avg, normalized, adaptive);
    // One subtraction: separate ones could each round in the same direction at every step.
    updated.param = old.param - (decay + step_size * direction);
    return updated;
}
