use super::check_normal;
use crate::Error;

/// Scales the gradients of each group of the layout by `min(1, max_norm / (norm + 1e-6))`, with the Euclidean norm of the
/// group: PyTorch's `clip_grad_norm_`, called for each. The elements without a group are one more.
///
/// Four more dispatches; 12 more bytes per parameter. Not for rules with sums of their own
/// ([`Rule::reduction`](crate::Rule::reduction)). A gradient scale below 1 that takes a gradient beyond f32 makes it
/// infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct GroupNorm {
    /// Maximum norm of each group, a normal number in f32.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub max_norm: f64,
    /// As [`GlobalNorm::exact`](super::GlobalNorm::exact); default false.
    #[cfg_attr(feature = "serde", serde(default))]
    pub exact: bool,
}

impl GroupNorm {
    /// With PyTorch's coefficient.
    pub fn new(max_norm: f64) -> Self {
        Self { max_norm, exact: false }
    }

    /// Sets [`GroupNorm::exact`].
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        check_normal("clip by norms of groups", "max_norm", self.max_norm)
    }
}
