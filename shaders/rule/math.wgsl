// Functions that several rules share.

// A running average: beta * old + (1 - beta) * value.
// The difference form, as in torch.lerp, keeps the rounding of beta (up to 1e-4 of 1 - beta) out of the result.
fn lerp(old: vec4<f32>, value: vec4<f32>, beta: f32, one_minus_beta: f32) -> vec4<f32> {
    let stepped = old + one_minus_beta * (value - old);
    // equivalent(<): both forms are accurate at 0.5
    return select(beta * old + one_minus_beta * value, stepped, one_minus_beta <= 0.5);
}

// The maximum of two non-negative numbers; NaN where either is NaN, as in torch.maximum.
// Compares bits, because WGSL leaves the maximum of NaN undefined.
fn maximum(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(max(bitcast<vec4<u32>>(a), bitcast<vec4<u32>>(b)));
}

// The sign, as in torch.sign: -1, 0 or 1; 0 for NaN. WGSL leaves `sign` of NaN undefined.
fn sign_of(value: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(value > vec4<f32>(0.0)) - vec4<f32>(value < vec4<f32>(0.0));
}

// Whether both are positive or both are negative. Compares signs, because a product could underflow.
fn same_sign(a: vec4<f32>, b: vec4<f32>) -> vec4<bool> {
    let zero = vec4<f32>(0.0);
    return ((a > zero) & (b > zero)) | ((a < zero) & (b < zero));
}
