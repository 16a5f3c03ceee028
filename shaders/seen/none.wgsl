// Of steps that clip all gradients alike or none: what observe.wgsl sees of a gradient after that.

fn seen(grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<f32> {
    return grad;
}

fn is_clipped(grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<bool> {
    return vec4<bool>();
}
