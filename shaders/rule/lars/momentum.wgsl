override nesterov: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {
    var updated = old;
    var scaled = scaled_grad(old.param, grad, hyper, step);
    var lr_outside = step.lr;
    if optax {
        scaled = scaled * step.lr;
        lr_outside = vec4<f32>(1.0);
    }
    updated.momentum_buffer = hyper.momentum * old.momentum_buffer + hyper.one_minus_dampening * scaled;
    if step.t == 1u {
        updated.momentum_buffer = scaled;
    }
    var direction = updated.momentum_buffer;
    if nesterov {
        direction = scaled + hyper.momentum * updated.momentum_buffer;
    }
    updated.param = old.param - lr_outside * direction;
    return updated;
}
