//! A sum of p-th powers that neither overflows nor underflows. Its value is `sum * 2^(p * exponent)`.

use bytemuck::{Pod, Zeroable};

use super::control::NONE;
use super::norm_order::NormOrder;
use crate::tile::workgroup_sum;

/// `ScaledSum` of the WGSL.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub(crate) struct ScaledSum {
    pub(crate) exponent: i32,
    pub(crate) sum: f32,
    pub(crate) max_bits: u32,
    pub(crate) first_nonfinite: u32,
}

impl ScaledSum {
    pub(crate) const EMPTY: Self = Self { exponent: -126, sum: 0.0, max_bits: 0, first_nonfinite: NONE };

    pub(crate) fn combine(self, other: Self, order: NormOrder) -> Self {
        let exponent = self.exponent.max(other.exponent);
        let sum =
            self.sum * order.rescale(self.exponent - exponent) + other.sum * order.rescale(other.exponent - exponent);
        Self {
            exponent,
            sum,
            max_bits: self.max_bits.max(other.max_bits),
            first_nonfinite: self.first_nonfinite.min(other.first_nonfinite),
        }
    }
}

/// The sum of all tile sums, in the order of a workgroup of 256.
pub(crate) fn tile_total(tile_sums: &[ScaledSum], order: NormOrder) -> ScaledSum {
    let mut lane_totals = [ScaledSum::EMPTY; 256];
    for (i, &sum) in tile_sums.iter().enumerate() {
        lane_totals[i % 256] = lane_totals[i % 256].combine(sum, order);
    }
    workgroup_sum(&mut lane_totals, |a, b| a.combine(b, order))
}
