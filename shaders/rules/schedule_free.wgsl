// Schedule-free learning (Defazio et al. 2024, arXiv 2405.15682; facebookresearch/schedule_free: SGDScheduleFree and
// AdamWScheduleFree). Training parameters are the sequence y:
//   warmup_t = min(t / warmup_steps, 1); lr_max = max(lr_max, lr * warmup_t)
//   weight_t = t^r * lr_max^weight_lr_power; c = weight_t / (weight_1 + ... + weight_t)
//   grad += weight_decay * y
//   y = (1 - c) * y + c * z - lr * warmup_t * (1 - beta * (1 - c)) * grad
//   z = z - lr * warmup_t * grad, with z = y before the first step
//   evaluation: x = y + (1 - 1 / beta) * (z - y)
// normalized (AdamW): exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad^2, and
//   grad / (sqrt(exp_avg_sq / (1 - beta2^t)) + eps) in place of grad

import package::rule::step::{StepScalars};
import interface::{Element, Hyper, ScalarState};

override r: u32;
override weight_lr_power: u32;
override normalized: bool;

// weight_sum is in units of the step's own weight: sums of equal weights are exact, and no power overflows f32.
fn update_scalars(old: ScalarState, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> ScalarState {
    var updated = old;
    updated.warmup = min(f32(t) * hyper.inverse_warmup_steps, 1.0);
    updated.lr_max = max(old.lr_max, lr * updated.warmup);
    var before = old.weight_sum;
    for (var i = 0u; i < r; i++) {
        before = before * (f32(t - 1u) / f32(t));
    }
    // equivalent(>=): the quotient of equal numbers is 1, or the step has no weight
    let shrinking = select(1.0, old.lr_max / updated.lr_max, updated.lr_max > old.lr_max);
    for (var i = 0u; i < weight_lr_power; i++) {
        before = before * shrinking;
    }
    let weightless = updated.lr_max == 0.0 && weight_lr_power > 0u;
    updated.weight_sum = select(before + 1.0, old.weight_sum, weightless);
    updated.average_share = select(1.0 / (before + 1.0), old.average_share, weightless);
    return updated;
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    updated.z = select(old.z, old.param, step.is_first);
    let lr = step.lr * step.scalar_state.warmup;
    var direction = grad;
    if normalized {
        updated.exp_avg_sq = hyper.beta2 * old.exp_avg_sq + hyper.one_minus_beta2 * (grad * grad);
        direction = grad / (sqrt(updated.exp_avg_sq / step.bias_correction.x) + hyper.eps);
    }
    let decayed = direction + step.weight_decay * old.param;
    // 1 - beta (1 - c), without cancellation.
    let grad_share = hyper.one_minus_beta + hyper.beta * step.scalar_state.average_share;
    updated.param = old.param + step.scalar_state.average_share * (updated.z - old.param) - (lr * grad_share) * decayed;
    updated.z = updated.z - lr * decayed;
    return updated;
}

// Computes evaluation parameters from training parameters. Rounding makes it irreversible: `train` restores a copy.
fn eval(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    // Before the first step all sequences are equal, and z is 0.
    let evaluated = old.param - hyper.eval_share * (old.z - old.param);
    updated.param = select(evaluated, old.param, step.is_first);
    return updated;
}
