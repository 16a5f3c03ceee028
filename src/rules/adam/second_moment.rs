//! The second moment of each element.

/// `second_moment` of the WGSL.
#[inline(always)]
pub(super) fn second_moment(exp_avg_sq: f32, grad: f32, beta2: f32, one_minus_beta2: f32) -> f32 {
    beta2 * exp_avg_sq + one_minus_beta2 * (grad * grad)
}
