use super::check_normal;
use crate::Error;

/// Clamps every gradient to `-clip_value..=clip_value`, after the gradient scale: PyTorch's `clip_grad_value_`, optax's
/// `clip`. No more dispatches. Infinities become `clip_value` if the policy lets them through; NaN stays NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Value {
    /// Maximum absolute value, a normal number in f32.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub clip_value: f64,
}

impl Value {
    /// By that value.
    pub fn new(clip_value: f64) -> Self {
        Self { clip_value }
    }

    pub(super) fn validate(self) -> Result<(), Error> {
        check_normal("clip by value", "clip_value", self.clip_value)
    }
}
