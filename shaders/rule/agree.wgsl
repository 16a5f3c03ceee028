// Whether both have the same sign, and neither is 0. Their product might vanish. Twin: src/rule.rs.
fn agree(a: vec4<f32>, b: vec4<f32>) -> vec4<bool> {
    let zero = vec4<f32>(0.0);
    return ((a > zero) & (b > zero)) | ((a < zero) & (b < zero));
}
