// For steps that clip at a constant norm.

import step_uniforms::{uniforms};

fn max_norm_of(grad_norm: f32, counts: bool, lane: u32) -> f32 {
    return uniforms.head.max_norm;
}
