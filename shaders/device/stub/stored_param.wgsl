// Stub for parameters that steps store as f32, in one stream or two.

fn stored_bits(param: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(param);
}
