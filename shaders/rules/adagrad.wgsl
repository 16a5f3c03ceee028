// Adagrad (Duchi et al. 2011, JMLR 12; torch.optim.Adagrad).
//   grad += weight_decay * param
//   sum = sum + grad^2
//   param -= lr / (1 + (t - 1) * lr_decay) * grad / (sqrt(sum) + eps)
// eps_in_root (optax, TensorFlow): the denominator is sqrt(sum + eps)

import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

override eps_in_root: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let decayed = grad + step.weight_decay * old.param;
    updated.sum = old.sum + decayed * decayed;
    let clr = step.lr / (1.0 + f32(step.t - 1u) * hyper.lr_decay);
    var denom = sqrt(updated.sum) + hyper.eps;
    if eps_in_root {
        denom = sqrt(updated.sum + hyper.eps);
    }
    updated.param = old.param - clr * (decayed / denom);
    return updated;
}
