// LARS (You et al. 2017, arXiv 1708.03888; torch_optimizer.LARS).
//   ratio = trust_coefficient * |param| / (|grad| + weight_decay * |param| + eps)
//   SGD with the gradient ratio * (grad + weight_decay * param), with or without momentum
// optax (optax.lars): ratio = trust_coefficient * |param| / (|grad + weight_decay * param| + eps); the momentum buffer
//   accumulates lr * gradient

import package::rule::step::{StepScalars};
import interface::{Element, Hyper, SegmentSums};

override optax: bool;
override has_momentum: bool;
override nesterov: bool;

fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums {
    var summed_grad = grad;
    if optax {
        summed_grad = grad + step.weight_decay * old.param;
    }
    return SegmentSums(old.param * old.param, summed_grad * summed_grad);
}

fn scaled_grad(param: vec4<f32>, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    let decayed = grad + step.weight_decay * param;
    let param_norm = sqrt(step.sums.param_sq);
    let grad_norm = sqrt(step.sums.grad_sq);
    let vanishes = (param_norm == vec4<f32>(0.0)) | (grad_norm == vec4<f32>(0.0));
    if optax {
        let ratio = hyper.trust_coefficient * param_norm / (grad_norm + hyper.eps);
        return select(ratio * decayed, decayed, vanishes);
    }
    let ratio = hyper.trust_coefficient * (param_norm / (grad_norm + step.weight_decay * param_norm + hyper.eps));
    return select(ratio * decayed, grad, vanishes | (step.weight_decay == vec4<f32>(0.0)));
}

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    var scaled = scaled_grad(old.param, grad, hyper, step);
    if !has_momentum {
        updated.param = old.param - step.lr * scaled;
        return updated;
    }
    var lr_outside = step.lr;
    if optax {
        scaled = scaled * step.lr;
        lr_outside = vec4<f32>(1.0);
    }
    let averaged = hyper.momentum * old.momentum_buffer + hyper.one_minus_dampening * scaled;
    updated.momentum_buffer = select(averaged, scaled, step.is_first);
    var direction = updated.momentum_buffer;
    if nesterov {
        direction = scaled + hyper.momentum * updated.momentum_buffer;
    }
    updated.param = old.param - lr_outside * direction;
    return updated;
}
