//! The p-norm: p = 1, 2, infinity, or any other from 1 to 32.

use crate::power_of_two::{power_of_two, scale_by_power_of_two};

/// The order of the global norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum NormOrder {
    One,
    Two,
    Infinity,
    P(f32),
}

impl NormOrder {
    pub(crate) fn new(norm_type: f64) -> Self {
        match norm_type {
            1.0 => Self::One,
            2.0 => Self::Two,
            f64::INFINITY => Self::Infinity,
            p => Self::P(p as f32),
        }
    }

    /// Values of the WGSL's override constants.
    pub(crate) fn constants(self) -> [(&'static str, f64); 2] {
        let (order, norm_type) = match self {
            Self::One => (0, 1.0),
            Self::Two => (1, 2.0),
            // No kernel reads the value for this order, but compilers may still divide by it: it must not be 0.
            Self::Infinity => (2, 1.0),
            Self::P(p) => (3, p),
        };
        [("norm_order", f64::from(order)), ("norm_type", f64::from(norm_type))]
    }

    /// The summand of an element, scaled to below 4.
    #[inline(always)]
    pub(crate) fn summand(self, scaled: f32) -> f32 {
        match self {
            Self::One => scaled,
            Self::Two => scaled * scaled,
            Self::Infinity => 0.0,
            Self::P(p) => scaled.powf(p),
        }
    }

    /// The factor of a sum when the scale of its elements changes by 2^exponent.
    pub(crate) fn rescale(self, exponent: i32) -> f32 {
        match self {
            Self::One => power_of_two(exponent),
            Self::Two => power_of_two(2 * exponent),
            Self::Infinity => 0.0,
            Self::P(p) => (p * exponent as f32).exp2(),
        }
    }

    /// The norm of the scaled elements, given their sum and the bits of the largest absolute value.
    pub(crate) fn root_of(self, sum: f32, max_bits: u32, exponent: i32) -> f32 {
        match self {
            Self::One => sum,
            Self::Two => sum.sqrt(),
            Self::Infinity => scale_by_power_of_two(f32::from_bits(max_bits), -exponent),
            Self::P(p) => sum.powf(1.0 / p),
        }
    }
}
