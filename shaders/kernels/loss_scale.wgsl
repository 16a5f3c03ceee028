// Dynamic loss scaling: `decide` divides gradients by the scale, and updates it.

import package::power_of_two::{LEAST_NORMAL};

struct LossScale {
    scale: f32,
    // Applied steps since the scale changed.
    growth_tracker: u32,
    growth_factor: f32,
    backoff_factor: f32,
    growth_interval: u32,
}

@group(0) @binding(5) var<storage, read_write> loss_scale: LossScale;

// The largest scale with a normal inverse.
const MAX_SCALE: f32 = 8.507059e37;

fn grad_scale_bits() -> u32 {
    return bitcast<u32>(loss_scale.scale);
}

// Follows a step, whose gradients were finite or not. Returns the new scale.
fn update_loss_scale(is_finite: bool) -> f32 {
    let scale = loss_scale.scale;
    if !is_finite {
        // `max` may take a flushed product for 0.
        loss_scale.scale = max(scale * loss_scale.backoff_factor, bitcast<f32>(LEAST_NORMAL));
        loss_scale.growth_tracker = 0u;
        return loss_scale.scale;
    }
    let applied = loss_scale.growth_tracker + 1u;
    let grows = applied >= loss_scale.growth_interval;
    // A quotient, since the product may be infinite.
    if grows && scale <= MAX_SCALE / loss_scale.growth_factor {
        loss_scale.scale = scale * loss_scale.growth_factor;
    }
    loss_scale.growth_tracker = select(applied, 0u, grows);
    return loss_scale.scale;
}
