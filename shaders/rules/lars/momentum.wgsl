override nesterov: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    var scaled = scaled_grad(old.param, grad, hyper, step);
    var lr_outside = step.lr;
    if optax {
        scaled = scaled * step.lr;
        lr_outside = vec4<f32>(1.0);
    }
    let averaged = hyper.momentum * old.momentum_buffer + hyper.one_minus_dampening * scaled;
    updated.momentum_buffer = select(averaged, scaled, step.t == 1u);
    var direction = updated.momentum_buffer;
    if nesterov {
        direction = scaled + hyper.momentum * updated.momentum_buffer;
    }
    updated.param = old.param - lr_outside * direction;
    return updated;
}
