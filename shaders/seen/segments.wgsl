// Of steps that clip by the norms of segments: what observe.wgsl sees of a gradient after that, and whether it was clipped.

fn seen(grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<f32> {
    return clip_grad(grad, step.measured, hyper);
}

fn is_clipped(grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<bool> {
    return clip_factors(step.measured, hyper).first < vec4<f32>(1.0);
}
