// Sophia (Liu et al. 2023, arXiv 2305.14342).
//   update_hessian: hessian = beta2 * hessian + (1 - beta2) * estimate; Sophia-G squares the sampled gradient
//   param *= 1 - lr * weight_decay
//   exp_avg = beta1 * exp_avg + (1 - beta1) * grad
//   Sophia-G (the authors' SophiaG): param -= lr * clamp(exp_avg / (rho * bs * hessian + 1e-15), -1, 1)
//   Sophia-H (optax.contrib.sophia): param -= lr * clamp(exp_avg / (1 - beta1^t) / max(gamma * hessian, eps), -1, 1)

import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override hutchinson: bool;

struct Quotient {
    momentum: vec4<f32>,
    denom: vec4<f32>,
}

// The update before clipping.
fn quotient(exp_avg: vec4<f32>, hessian: vec4<f32>, hyper: Hyper, step: StepScalars) -> Quotient {
    let denom = hyper.hessian_scale * hessian;
    if hutchinson {
        return Quotient(exp_avg / step.bias_correction.x, max(denom, vec4<f32>(hyper.eps)));
    }
    return Quotient(exp_avg, denom + hyper.eps);
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    // Subtracts the decay: the factor 1 - lr * weight_decay would round in the same direction at every step.
    updated.param = old.param - (step.lr * step.weight_decay) * old.param;
    updated.exp_avg = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * grad;
    let update = quotient(updated.exp_avg, old.hessian, hyper, step);
    // Replaces a clipped quotient by its sign: with a denominator of 1e-15 the quotient could overflow.
    // equivalent(>): at the bound the quotient is the sign
    let clipped = select(update.momentum / update.denom, sign(update.momentum), abs(update.momentum) >= update.denom);
    updated.param = updated.param - step.lr * clipped;
    return updated;
}

// `grad` is the estimate: the gradient for sampled labels (G), or u * (Hessian u) for a random vector u (H).
fn update_hessian(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    var estimate = grad * grad;
    if hutchinson {
        estimate = grad;
    }
    updated.hessian = hyper.beta2 * old.hessian + hyper.one_minus_beta2 * estimate;
    return updated;
}

// The win rate: elements whose update is not clipped.
fn metric(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<bool> {
    let exp_avg = hyper.beta1 * old.exp_avg + hyper.one_minus_beta1 * grad;
    let update = quotient(exp_avg, old.hessian, hyper, step);
    return abs(update.momentum) < update.denom;
}
