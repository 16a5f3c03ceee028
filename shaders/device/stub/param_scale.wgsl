// Stub for SAM that is not adaptive.

fn param_scale(param: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn param_scale_at(element: u32) -> vec4<f32> {
    return vec4<f32>(1.0);
}
