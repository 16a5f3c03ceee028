//! A sum of p-th powers that neither overflows nor underflows. Its value is `sum * 2^(p * exponent)`.

use super::control::NONE;
use super::norm_order::NormOrder;

/// `ScaledSum` of the WGSL.
#[derive(Debug, Clone, Copy, PartialEq)]
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
