// Stub for rules without scalar state.

import interface::{Hyper, ScalarState};

fn update_scalars(old: ScalarState, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> ScalarState {
    return old;
}
