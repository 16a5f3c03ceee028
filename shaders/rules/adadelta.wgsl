// Adadelta (Zeiler 2012, arXiv 1212.5701, Algorithm 1; torch.optim.Adadelta).
//   grad += weight_decay * param
//   square_avg = rho * square_avg + (1 - rho) * grad^2
//   delta = sqrt(acc_delta + eps) / sqrt(square_avg + eps) * grad
//   acc_delta = rho * acc_delta + (1 - rho) * delta^2
//   param -= lr * delta

import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let decayed = grad + step.weight_decay * old.param;
    updated.square_avg = hyper.rho * old.square_avg + hyper.one_minus_rho * (decayed * decayed);
    let delta = sqrt(old.acc_delta + hyper.eps) / sqrt(updated.square_avg + hyper.eps) * decayed;
    updated.acc_delta = hyper.rho * old.acc_delta + hyper.one_minus_rho * (delta * delta);
    updated.param = old.param - step.lr * delta;
    return updated;
}
