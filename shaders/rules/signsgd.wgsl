// SignSGD and, with momentum, Signum (Bernstein et al. 2018, arXiv 1802.04434; optax.sign_sgd, optax.signum).
//   has_momentum: momentum_buffer = momentum * momentum_buffer + (1 - momentum) * grad, in place of grad below
//   param *= 1 - lr * weight_decay
//   param -= lr * sign(grad), with sign(0) = 0

import package::rule::math::{lerp, sign_of};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override has_momentum: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    var direction = grad;
    if has_momentum {
        updated.momentum_buffer = lerp(old.momentum_buffer, grad, hyper.momentum, hyper.one_minus_momentum);
        direction = updated.momentum_buffer;
    }
    let decay = (step.lr * step.weight_decay) * old.param;
    // One subtraction: separate ones could each round in the same direction at every step.
    updated.param = old.param - (decay + step.lr * sign_of(direction));
    return updated;
}
