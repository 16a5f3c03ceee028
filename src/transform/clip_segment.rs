//! Clipping by the norms of segments: groups, tensors or units.

use crate::clip::{Adaptive, GroupNorm};
use crate::power_of_two::scale_element;
use crate::rule::{ReduceBy, Reduction, StepScalars, Terms};
use crate::storage::{ABSOLUTE, INFINITE};

const SMALL_BITS: u32 = (127 - 40) << 23;
const LARGE_BITS: u32 = (127 + 40) << 23;
const SHRINK: f32 = 1.0 / (1u128 << EXPONENT) as f32;
const EXPONENT: i32 = 80;

/// A number that is positive or 0, times 2^exponent.
#[inline(always)]
fn scaled(value: f32, exponent: i32) -> f32 {
    scale_element(value.to_bits(), exponent)
}

/// Clipping by the norms of segments, for rules that need no sums over segments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClipSegment {
    /// Maximum norm, or its ratio to the parameters' norm.
    pub(crate) limit: f32,
    /// Added to the norm, or minimum norm of parameters.
    pub(crate) eps: f32,
    pub(crate) by_params: bool,
    pub(crate) by: ReduceBy,
}

impl ClipSegment {
    pub(crate) fn by_group(clip: &GroupNorm) -> Self {
        let eps = if clip.exact { 0.0 } else { 1e-6 };
        Self { limit: clip.max_norm as f32, eps, by_params: false, by: ReduceBy::Group }
    }

    pub(crate) fn adaptive(clip: &Adaptive) -> Self {
        let by = if clip.per_tensor { ReduceBy::Tensor } else { ReduceBy::Unit };
        Self { limit: clip.clip_factor as f32, eps: clip.eps as f32, by_params: true, by }
    }

    /// Further fields of `Hyper`.
    pub(crate) fn hyperparameters(&self) -> [(&'static str, f32); 2] {
        [("clip_limit", self.limit), ("clip_eps", self.eps)]
    }

    /// Values of override constants.
    pub(crate) fn constants(&self) -> [(&'static str, bool); 1] {
        [("clip_by_params", self.by_params)]
    }

    /// `clip_factors` of the WGSL.
    pub(crate) fn clip_factors(&self, [small, middle, large, param]: [f32; 4]) -> [f32; 2] {
        if large.is_nan() {
            return [large, 1.0];
        }
        let (limit, eps) = (self.limit, self.eps);
        let squared = |value: f32| value * value;
        let (has_middle, has_large) = (middle > 0.0, large > 0.0);
        let (higher, lower, exponent) = if has_large {
            (large, middle, EXPONENT)
        } else if has_middle {
            (middle, small, 0)
        } else {
            (small, 0.0, -EXPONENT)
        };
        let root = (higher + squared(scaled(lower.sqrt(), -EXPONENT))).sqrt();
        let norm = scaled(root, exponent);
        let (max_norm, divisor, exceeds);
        if self.by_params {
            max_norm = limit * param.sqrt().max(eps);
            divisor = norm.max(1e-6);
            exceeds = norm >= max_norm;
        } else {
            max_norm = limit;
            divisor = norm + eps;
            exceeds = divisor > max_norm;
        }
        if !exceeds {
            return [1.0; 2];
        }
        let coef = if has_large { scaled(max_norm / root, -EXPONENT) } else { max_norm / divisor };
        let shrunk = if has_large { root } else { scaled(divisor, -EXPONENT) };
        // Avoids subnormal coefficients: they have fewer bits, and devices may flush them to 0.
        if coef < f32::MIN_POSITIVE { [SHRINK, max_norm / shrunk] } else { [coef, 1.0] }
    }
}

impl Reduction for ClipSegment {
    fn sums(&self) -> Vec<&'static str> {
        vec!["clip_small", "clip_middle", "clip_large", "clip_param"]
    }
    fn by(&self) -> ReduceBy {
        self.by
    }
    fn terms(&self, elements: Terms<'_>, _step: &StepScalars) {
        elements.without_states().each(
            #[inline(always)]
            move |param, grad, []| {
                let bits = grad.to_bits() & ABSOLUTE;
                // The large ones include infinity and NaN.
                let (is_small, is_large) = (bits < SMALL_BITS, bits > LARGE_BITS);
                let small = if is_small { scale_element(bits, EXPONENT) } else { 0.0 };
                let middle = if is_small | is_large { 0.0 } else { grad };
                let shrunk = if bits >= INFINITE { grad } else { scale_element(bits, -EXPONENT) };
                let large = if is_large { shrunk } else { 0.0 };
                [small * small, middle * middle, large * large, param * param]
            },
        );
    }
}
