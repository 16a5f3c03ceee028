//! One second moment per row, of the mean square of its gradients before weight decay.

/// `second_moment` of the WGSL.
#[inline(always)]
pub(super) fn second_moment(variance: f32) -> f32 {
    variance
}

/// `update_factor` of the WGSL.
pub(super) fn update_factor(betas: (f64, f64), old: f32, mean_sq: f32) -> f32 {
    betas.1 as f32 * old + (1.0 - betas.1) as f32 * mean_sq
}

/// `floor_mean` of the WGSL: no factor is divided by a mean.
pub(super) fn floor_mean(mean: f32) -> f32 {
    mean
}
