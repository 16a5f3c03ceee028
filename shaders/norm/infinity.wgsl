// The largest absolute value, which the finite check has found already.

fn terms_of(scaled: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(0.0);
}

fn rescale(exponent: i32) -> f32 {
    return 0.0;
}

fn root_of(total: Partial) -> f32 {
    return bitcast<f32>(total.max_bits) * power_of_two(-total.exponent);
}
