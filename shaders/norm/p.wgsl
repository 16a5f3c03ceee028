// The p-norm; `NORM_TYPE` is its p.

// Of numbers that are not negative. WGSL leaves pow(0, p) to the device.
fn power(base: vec4<f32>, exponent: f32) -> vec4<f32> {
    // equivalent(<=): beside the largest number, which is 1 or more, no power of such a one counts
    return select(pow(base, vec4<f32>(exponent)), vec4<f32>(0.0), base < vec4<f32>(1.17549435e-38));
}

fn terms_of(scaled: vec4<f32>) -> vec4<f32> {
    return power(scaled, NORM_TYPE);
}

fn rescale(exponent: i32) -> f32 {
    return exp2(NORM_TYPE * f32(exponent));
}

fn root_of(total: Partial) -> f32 {
    return power(vec4<f32>(total.sum), 1.0 / NORM_TYPE).x;
}
