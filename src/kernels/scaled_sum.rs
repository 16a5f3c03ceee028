use super::control::NONE;
use crate::clip::Norm;

/// A sum over scaled elements, which can neither overflow nor vanish: of squares, `sum · 4^exponent`. Twin of
/// `shaders/partial.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Partial {
    pub(crate) exponent: i32,
    pub(crate) sum: f32,
    pub(crate) max_bits: u32,
    pub(crate) first_nonfinite: u32,
}

pub(crate) const EMPTY_PARTIAL: Partial = Partial { exponent: -126, sum: 0.0, max_bits: 0, first_nonfinite: NONE };

/// 2^exponent as an f32, 0 below the normal range.
pub(crate) fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127).clamp(0, 254) as u32) << 23)
}

/// Twin of `shaders/norm/*.wgsl`.
impl Norm {
    /// What an element, scaled to below 4, adds to the sum.
    #[inline(always)]
    pub(crate) fn term_of(self, scaled: f32) -> f32 {
        match self {
            Self::One => scaled,
            Self::Two => scaled * scaled,
            Self::Infinity => 0.0,
            Self::P(p) => scaled.powf(p),
        }
    }

    /// What a sum is multiplied by when its elements' scale changes by 2^exponent.
    pub(crate) fn rescale(self, exponent: i32) -> f32 {
        match self {
            Self::One => power_of_two(exponent),
            Self::Two => power_of_two(2 * exponent),
            Self::Infinity => 0.0,
            Self::P(p) => (p * exponent as f32).exp2(),
        }
    }

    /// The norm of the scaled elements.
    pub(crate) fn root_of(self, total: &Partial) -> f32 {
        match self {
            Self::One => total.sum,
            Self::Two => total.sum.sqrt(),
            Self::Infinity => f32::from_bits(total.max_bits) * power_of_two(-total.exponent),
            Self::P(p) => total.sum.powf(1.0 / p),
        }
    }
}

pub(crate) fn combine(norm: Norm, a: Partial, b: Partial) -> Partial {
    let exponent = a.exponent.max(b.exponent);
    let sum = a.sum * norm.rescale(a.exponent - exponent) + b.sum * norm.rescale(b.exponent - exponent);
    Partial {
        exponent,
        sum,
        max_bits: a.max_bits.max(b.max_bits),
        first_nonfinite: a.first_nonfinite.min(b.first_nonfinite),
    }
}
