// Clips by value: clamps gradients to -clip_value..clip_value. NaN stays NaN.

import package::device::control_uniform::{control};
import package::kernels::control::{INFINITE};

fn clip_by_value(grad: vec4<f32>) -> vec4<f32> {
    let clamped = clamp(grad, vec4<f32>(-control.clip_value), vec4<f32>(control.clip_value));
    // Detects NaN by its bits: a device may assume that no float is NaN.
    let bits = bitcast<vec4<u32>>(grad) & vec4<u32>(0x7fffffffu);
    return select(clamped, grad, bits > vec4<u32>(INFINITE));
}

fn is_clipped_by_value(grad: vec4<f32>) -> vec4<bool> {
    return abs(grad) > vec4<f32>(control.clip_value);
}
