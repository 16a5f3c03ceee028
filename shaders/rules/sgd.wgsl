// SGD (torch.optim.SGD): grad += weight_decay * param; param -= lr * grad.
// has_momentum (Sutskever et al. 2013 for Nesterov):
//   step 1: buf = grad; then buf = momentum * buf + (1 - dampening) * grad
//   param -= lr * buf, or with Nesterov lr * (grad + momentum * buf)
// dampen_first_step (optax.ema, optimi): no exception for step 1
// lr_in_buffer (Keras): buf = momentum * buf + lr * grad; param -= buf, or with Nesterov lr * grad + momentum * buf
// cautious (Liang et al. 2024, arXiv 2411.16085): no update where its sign differs from the gradient's

import package::rule::math::{same_sign};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override has_momentum: bool;
override nesterov: bool;
override dampen_first_step: bool;
override lr_in_buffer: bool;
override cautious: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let decayed = grad + step.weight_decay * old.param;
    if !has_momentum {
        updated.param = old.param - step.lr * decayed;
        return updated;
    }
    var share = decayed;
    if lr_in_buffer {
        share = step.lr * decayed;
    }
    updated.momentum_buffer = hyper.momentum * old.momentum_buffer + hyper.one_minus_dampening * share;
    if !dampen_first_step {
        updated.momentum_buffer = select(updated.momentum_buffer, share, step.is_first);
    }
    var direction = updated.momentum_buffer;
    if nesterov {
        direction = share + hyper.momentum * updated.momentum_buffer;
    }
    if cautious {
        direction = direction * vec4<f32>(same_sign(direction, decayed));
    }
    if !lr_in_buffer {
        direction = step.lr * direction;
    }
    updated.param = old.param - direction;
    return updated;
}
