// Stub for steps that do not clip by value.

fn clip_by_value(grad: vec4<f32>) -> vec4<f32> {
    return grad;
}

fn is_clipped_by_value(grad: vec4<f32>) -> vec4<bool> {
    return vec4<bool>();
}
