use crate::Error;
use crate::error::check;

/// Gradient clipping, folded into the update.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Clip(Kind);

#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)
)]
enum Kind {
    GlobalNorm { max_norm: f64 },
}

impl Clip {
    /// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, with the Euclidean norm over every element
    /// that is not frozen: PyTorch's `clip_grad_norm_`. `f64::INFINITY` measures the norm and clips nothing.
    pub fn global_norm(max_norm: f64) -> Self {
        Self(Kind::GlobalNorm { max_norm })
    }

    pub(crate) fn validate(self) -> Result<(), Error> {
        let Kind::GlobalNorm { max_norm } = self.0;
        let normal = max_norm as f32 >= f32::MIN_POSITIVE;
        check(normal, "clip", "max_norm", max_norm, "1.2e-38 (the least normal f32) or more; infinity measures only")
    }

    /// Where to clip, unless the norm is only measured.
    pub(crate) fn max_norm(self) -> Option<f32> {
        let Kind::GlobalNorm { max_norm } = self.0;
        max_norm.is_finite().then_some((max_norm as f32).min(f32::MAX))
    }
}

/// What a step does when a gradient is NaN or infinite.
///
/// Unless set, a step that measures the norm anyway (clipping, a gradient scale, a rule with norms of tensors) takes
/// [`NonFinite::Skip`], and a bare one takes [`NonFinite::Propagate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum NonFinite {
    /// Leaves every byte of parameters, states and step count as it was, and counts the step as skipped.
    Skip,
    /// As `Skip`, and also refuses every later step until `resume` is called.
    Stop,
    /// Updates with what is there, as PyTorch does; the statistics still name the first bad element.
    Propagate,
}
