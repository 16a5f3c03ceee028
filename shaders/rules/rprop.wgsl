// Rprop (Riedmiller & Braun 1993, ICNN; without weight backtracking; torch.optim.Rprop).
//   step 1: step_size = lr
//   step_size *= eta_plus where grad and prev have equal signs, eta_minus where they have opposite signs
//   step_size = clamp(step_size, step_size_min, step_size_max)
//   grad = 0 where the signs are opposite
//   param -= sign(grad) * step_size
//   prev = grad

import package::rule::math::{sign_of};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper};

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let step_size = select(old.step_size, step.lr, step.is_first);
    // Multiplies signs: the product of the numbers could underflow.
    let agreement = sign_of(grad) * sign_of(old.prev);
    var eta = select(vec4<f32>(1.0), vec4<f32>(hyper.eta_plus), agreement > vec4<f32>(0.0));
    eta = select(eta, vec4<f32>(hyper.eta_minus), agreement < vec4<f32>(0.0));
    let largest = min(step_size * eta, vec4<f32>(hyper.step_size_max));
    updated.step_size = max(largest, vec4<f32>(hyper.step_size_min));
    updated.prev = select(grad, vec4<f32>(0.0), agreement < vec4<f32>(0.0));
    updated.param = old.param - sign_of(updated.prev) * updated.step_size;
    return updated;
}
