// The Euclidean norm. Twin: src/cpu/partial.rs, as of the others in this folder.

// What four elements, scaled to below 4, add to the sum.
fn terms_of(scaled: vec4<f32>) -> vec4<f32> {
    return scaled * scaled;
}

// What a sum is multiplied by when its elements' scale changes by 2^exponent.
fn rescale(exponent: i32) -> f32 {
    return power_of_two(2 * exponent);
}

// The norm of the scaled elements.
fn root_of(total: Partial) -> f32 {
    return sqrt(total.sum);
}
