// RMSprop (Tieleman & Hinton 2012, Coursera lecture 6.5; torch.optim.RMSprop).
//   grad += weight_decay * param
//   square_avg = alpha * square_avg + (1 - alpha) * grad^2
//   param -= lr * grad / (sqrt(square_avg) + eps)
// centered (Graves 2013, arXiv 1308.0850, section 4): grad_avg = alpha * grad_avg + (1 - alpha) * grad, and
//   max(square_avg - grad_avg^2, 0) in place of square_avg
// eps_in_root (optax, Keras): sqrt(square_avg + eps)
// has_momentum: momentum_buffer = momentum * momentum_buffer + grad / ...; param -= lr * momentum_buffer
// lr_in_buffer (optax, Keras): momentum_buffer = momentum * momentum_buffer + lr * grad / ...; param -= momentum_buffer

import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override centered: bool;
override eps_in_root: bool;
override has_momentum: bool;
override lr_in_buffer: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let decayed = grad + step.weight_decay * old.param;
    updated.square_avg = hyper.alpha * old.square_avg + hyper.one_minus_alpha * (decayed * decayed);
    var moment = updated.square_avg;
    if centered {
        updated.grad_avg = hyper.alpha * old.grad_avg + hyper.one_minus_alpha * decayed;
        let variance = updated.square_avg - updated.grad_avg * updated.grad_avg;
        // `max` could replace NaN by 0.
        // equivalent(<=): replaces 0 by 0
        moment = select(variance, vec4<f32>(0.0), variance < vec4<f32>(0.0));
    }
    var avg = sqrt(moment) + hyper.eps;
    if eps_in_root {
        avg = sqrt(moment + hyper.eps);
    }
    let direction = decayed / avg;
    var change = step.lr * direction;
    if has_momentum {
        if lr_in_buffer {
            updated.momentum_buffer = hyper.momentum * old.momentum_buffer + step.lr * direction;
            change = updated.momentum_buffer;
        } else {
            updated.momentum_buffer = hyper.momentum * old.momentum_buffer + direction;
            change = step.lr * updated.momentum_buffer;
        }
    }
    updated.param = old.param - change;
    return updated;
}
