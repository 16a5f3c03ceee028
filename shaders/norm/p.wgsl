// The p-norm; `NORM_TYPE` is its p.

// Of numbers that are not negative. WGSL leaves pow(0, p) to the device.
fn power(base: vec4<f32>, exponent: f32) -> vec4<f32> {
    let positive = max(base, vec4<f32>(1.17549435e-38));
    return select(pow(positive, vec4<f32>(exponent)), vec4<f32>(0.0), base < vec4<f32>(1.17549435e-38));
}

fn terms_of(scaled: vec4<f32>) -> vec4<f32> {
    return power(scaled, NORM_TYPE);
}

fn rescale(exponent: i32) -> f32 {
    return exp2(max(NORM_TYPE * f32(exponent), -200.0));
}

fn root_of(total: Partial) -> f32 {
    return power(vec4<f32>(total.sum), 1.0 / NORM_TYPE).x;
}
