// Clipping by value. Twin: `Grads::seen` in src/rule/elements.rs.

fn clip_by_value(grad: vec4<f32>) -> vec4<f32> {
    let clamped = clamp(grad, vec4<f32>(-control.clip_value), vec4<f32>(control.clip_value));
    // NaN by its bits, since a device may take it that there is none.
    let bits = bitcast<vec4<u32>>(grad) & vec4<u32>(0x7fffffffu);
    return select(clamped, grad, bits > vec4<u32>(INFINITE));
}
