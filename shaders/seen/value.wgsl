// Of steps that clip by value: what observe.wgsl sees of a gradient after that, and whether it was clipped.

fn seen(grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<f32> {
    return clip_by_value(grad);
}

fn is_clipped(grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<bool> {
    return abs(grad) > vec4<f32>(control.clip_value);
}
