use super::check_normal;
use crate::Error;

const DEFAULT_EPS: f64 = 1e-3;

/// Adaptive gradient clipping ([arXiv 2102.06171](https://arxiv.org/abs/2102.06171)): scales the gradients of a unit down
/// to `clip_factor · max(‖param‖, eps)` if their norm exceeds it.
///
/// A unit is an index of a tensor's first dimension, or a whole tensor of fewer than two dimensions, as in timm. Costs
/// and limits as [`GroupNorm`](super::GroupNorm).
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Adaptive {
    /// Maximum ratio of the norms, a normal number in f32; 0.01 in the paper.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub clip_factor: f64,
    /// Minimum norm of parameters, so that they can leave 0; default 1e-3.
    #[cfg_attr(feature = "serde", serde(default = "default_eps", with = "crate::number"))]
    pub eps: f64,
    /// By norms of whole tensors; default false.
    #[cfg_attr(feature = "serde", serde(default))]
    pub per_tensor: bool,
}

#[cfg(feature = "serde")]
fn default_eps() -> f64 {
    DEFAULT_EPS
}

impl Adaptive {
    /// By norms of units, with the paper's eps.
    pub fn new(clip_factor: f64) -> Self {
        Self { clip_factor, eps: DEFAULT_EPS, per_tensor: false }
    }

    /// Sets [`Adaptive::eps`].
    #[must_use]
    pub fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets [`Adaptive::per_tensor`].
    #[must_use]
    pub fn per_tensor(mut self) -> Self {
        self.per_tensor = true;
        self
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        check_normal("adaptive clip", "clip_factor", self.clip_factor)?;
        check_normal("adaptive clip", "eps", self.eps)
    }
}
