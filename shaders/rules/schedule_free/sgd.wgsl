fn gradient(updated: ptr<function, Element>, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    return grad;
}
