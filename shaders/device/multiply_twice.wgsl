// Two products in this order.

import package::device::control_uniform::{control};

// Compilers cannot know that `zero` is 0. The xor keeps the products in order: WGSL allows values * (first * second), and
// 2^-126 * 2^-30 is 0. It also allows both factors to move out of sums.
fn multiply_twice(values: vec4<f32>, first: vec4<f32>, second: vec4<f32>, zero: u32) -> vec4<f32> {
    // undetected(^): Mesa keeps the order
    let once = bitcast<vec4<u32>>(values * first) ^ vec4<u32>(zero);
    // undetected(^): Mesa keeps the order
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(bitcast<vec4<f32>>(once) * second) ^ vec4<u32>(zero));
}

// The `zero` of passes that run only if the step applies.
fn zero_of_applied() -> u32 {
    return control.apply - 1u;
}

// Unscales and clips gradients by `grad_factors` of the control block.
fn apply_grad_factors(grad: vec4<f32>, factors: vec2<f32>, zero: u32) -> vec4<f32> {
    return multiply_twice(grad, vec4<f32>(factors.x), vec4<f32>(factors.y), zero);
}
