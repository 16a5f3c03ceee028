// Parameters that steps store as bf16 alone.

import package::storage::bf16::{bf16_nearest};

// The f32 bits of the parameter that a step to the nearest stores.
fn stored_bits(param: vec4<f32>) -> vec4<u32> {
    return bf16_nearest(bitcast<vec4<u32>>(param));
}
