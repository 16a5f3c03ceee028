//! Dynamic loss scaling.

use bytemuck::{Pod, Zeroable};

use crate::grad_scaler::GradScaler;

/// The largest scale with a normal inverse.
const MAX_SCALE: f32 = 8.507_059e37;

/// `LossScale` of the WGSL.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub(crate) struct LossScale {
    pub(crate) scale: f32,
    /// Applied steps since the scale changed.
    pub(crate) growth_tracker: u32,
    growth_factor: f32,
    backoff_factor: f32,
    growth_interval: u32,
    padding: [u32; 3],
}

impl LossScale {
    pub(crate) fn new(scaler: &GradScaler) -> Self {
        Self {
            scale: scaler.init_scale as f32,
            growth_factor: scaler.growth_factor as f32,
            backoff_factor: scaler.backoff_factor as f32,
            growth_interval: scaler.growth_interval,
            ..Self::zeroed()
        }
    }
}

/// Follows a step, whose gradients were finite or not.
pub(crate) fn update_loss_scale(loss_scale: &mut LossScale, is_finite: bool) {
    let LossScale { scale, growth_tracker, growth_factor, backoff_factor, growth_interval, .. } = *loss_scale;
    if !is_finite {
        loss_scale.scale = (scale * backoff_factor).max(f32::MIN_POSITIVE);
        loss_scale.growth_tracker = 0;
        return;
    }
    let applied = growth_tracker + 1;
    let grows = applied >= growth_interval;
    // A quotient, since the product may be infinite.
    if grows && scale <= MAX_SCALE / growth_factor {
        loss_scale.scale = scale * growth_factor;
    }
    loss_scale.growth_tracker = if grows { 0 } else { applied };
}
