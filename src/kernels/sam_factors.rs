//! The two factors that scale gradients to the length of a perturbation.

use super::norm_order::NormOrder;
use super::scaled_sum::{ScaledSum, tile_total};
use crate::power_of_two::power_of_two;
use crate::storage::INFINITE;

/// The factors for a perturbation of length `rho` along gradients with these tile sums.
pub(crate) fn sam_factors(rho: f32, tile_sums: &[ScaledSum]) -> [f32; 2] {
    let total = tile_total(tile_sums, NormOrder::Two);
    let root = NormOrder::Two.root_of(total.sum, total.max_bits, total.exponent);
    let length = match total.max_bits {
        0 | INFINITE => 0.0,
        bits if bits > INFINITE => f32::from_bits(bits),
        _ => rho / root,
    };
    [power_of_two(-total.exponent), length]
}
