// Schedule-free learning (Defazio et al. 2024, arXiv 2405.15682; facebookresearch/schedule_free: SGDScheduleFree and
// AdamWScheduleFree). Twin: src/rule/schedule_free.rs. Parameters are the sequence y while training:
//   warmup_t = min(t / warmup_steps, 1); lr_max = max(lr_max, lr * warmup_t)
//   weight_t = t^r * lr_max^weight_lr_power; c = weight_t / (weight_1 + ... + weight_t)
//   grad = grad_or_normalized + weight_decay * y (schedule_free/*.wgsl)
//   y = (1 - c) * y + c * z - lr * warmup_t * (1 - beta * (1 - c)) * grad
//   z = z - lr * warmup_t * grad, from z = y before the first step
//   evaluation: x = y + (1 - 1 / beta) * (z - y)

override r: u32;
override weight_lr_power: u32;

// weight_sum is in units of the step's own weight: the sum of equal weights is then their number, without rounding,
// and neither powers nor sums leave the range of f32.
fn advance(old: Scalars, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> Scalars {
    var scalars = old;
    scalars.warmup = min(f32(t) * hyper.inverse_warmup_steps, 1.0);
    scalars.lr_max = max(old.lr_max, lr * scalars.warmup);
    var before = old.weight_sum;
    for (var i = 0u; i < r; i++) {
        before = before * (f32(t - 1u) / f32(t));
    }
    // equivalent(>=): of equals the quotient is 1, or the step weightless
    let shrinking = select(1.0, old.lr_max / scalars.lr_max, scalars.lr_max > old.lr_max);
    for (var i = 0u; i < weight_lr_power; i++) {
        before = before * shrinking;
    }
    let weightless = scalars.lr_max == 0.0 && weight_lr_power > 0u;
    scalars.weight_sum = select(before + 1.0, old.weight_sum, weightless);
    scalars.average_share = select(1.0 / (before + 1.0), old.average_share, weightless);
    return scalars;
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    updated.z = select(old.z, old.param, step.t == 1u);
    let lr = step.lr * step.scalars.warmup;
    let decayed = gradient(&updated, grad, hyper, step) + step.weight_decay * old.param;
    // 1 - beta (1 - c), without cancellation.
    let grad_share = hyper.one_minus_beta + hyper.beta * step.scalars.average_share;
    updated.param = old.param + step.scalars.average_share * (updated.z - old.param) - (lr * grad_share) * decayed;
    updated.z = updated.z - lr * decayed;
    return updated;
}

// Makes evaluation parameters of training parameters, which nothing but a copy brings back to the bit.
fn eval(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    // Before the first step there is no z, and all sequences are one.
    let evaluated = old.param - hyper.eval_share * (old.z - old.param);
    updated.param = select(old.param, evaluated, step.t > 0u);
    return updated;
}
