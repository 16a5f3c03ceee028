use super::check_norm_type;
use crate::Error;
use crate::error::check;

/// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, with the norm over all active elements: PyTorch's
/// `clip_grad_norm_`. Two more dispatches, 4 more bytes per parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct GlobalNorm {
    /// Maximum norm, a normal number in f32; infinity computes the norm and clips nothing.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub max_norm: f64,
    /// Order of the norm: 1, 2, infinity for the largest absolute value, or any p from 1 to 32 for `(Σ|g|ᵖ)^(1/p)`;
    /// default 2.
    #[cfg_attr(feature = "serde", serde(default = "super::euclidean", with = "crate::number"))]
    pub norm_type: f64,
    /// Scale by `max_norm / norm` if the norm exceeds `max_norm`, without PyTorch's 1e-6, as optax's
    /// `clip_by_global_norm`; default false.
    #[cfg_attr(feature = "serde", serde(default))]
    pub exact: bool,
}

impl GlobalNorm {
    /// By the Euclidean norm.
    pub fn new(max_norm: f64) -> Self {
        Self { max_norm, norm_type: 2.0, exact: false }
    }

    /// Sets [`GlobalNorm::norm_type`].
    #[must_use]
    pub fn with_norm_type(mut self, p: f64) -> Self {
        self.norm_type = p;
        self
    }

    /// Sets [`GlobalNorm::exact`].
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        let allowed = "1.2e-38 (the least normal f32) or more; infinity computes the norm and clips nothing";
        check(self.max_norm as f32 >= f32::MIN_POSITIVE, "clip", "max_norm", self.max_norm, allowed)?;
        check_norm_type("clip", self.norm_type)
    }
}
