// 0 for zero and, as in PyTorch, for NaN, of which the built-in `sign` says nothing. Twin: src/rule.rs.
fn sign_of(value: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(value > vec4<f32>(0.0)) - vec4<f32>(value < vec4<f32>(0.0));
}
