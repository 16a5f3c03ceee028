fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    updated.param = old.param - step.lr * scaled_grad(old.param, grad, hyper, step);
    return updated;
}
