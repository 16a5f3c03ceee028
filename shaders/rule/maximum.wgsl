// The larger of numbers that are not negative, and NaN where one is, as torch.maximum has it. By their bits, since WGSL leaves
// open what becomes of NaN. Twin: src/rule.rs.
fn maximum(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(max(bitcast<vec4<u32>>(a), bitcast<vec4<u32>>(b)));
}
