fn change(updated: ptr<function, Element>, direction: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    return step.lr * direction;
}
