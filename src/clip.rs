use crate::Error;
use crate::error::check;
use crate::rule::Segmentation;

/// Gradient clipping, folded into the update.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Clip {
    kind: Kind,
    /// The first option that was given to a kind without it.
    #[cfg_attr(feature = "serde", serde(skip))]
    foreign: Option<(&'static str, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)
)]
enum Kind {
    GlobalNorm {
        #[cfg_attr(feature = "serde", serde(with = "number"))]
        max_norm: f64,
        #[cfg_attr(feature = "serde", serde(default = "two", with = "number"))]
        norm_type: f64,
        #[cfg_attr(feature = "serde", serde(default))]
        exact: bool,
    },
    Value {
        clip_value: f64,
    },
    GroupNorm {
        max_norm: f64,
        #[cfg_attr(feature = "serde", serde(default))]
        exact: bool,
    },
    Adaptive {
        clip_factor: f64,
        #[cfg_attr(feature = "serde", serde(default = "default_eps"))]
        eps: f64,
        #[cfg_attr(feature = "serde", serde(default))]
        per_tensor: bool,
    },
    Percentile {
        percentile: f64,
        #[cfg_attr(feature = "serde", serde(default = "default_window"))]
        window: u32,
        #[cfg_attr(feature = "serde", serde(default = "two", with = "number"))]
        norm_type: f64,
        #[cfg_attr(feature = "serde", serde(default))]
        exact: bool,
    },
}

#[cfg(feature = "serde")]
fn two() -> f64 {
    2.0
}

/// Numbers that may be infinite, which JSON writes as `"inf"`.
#[cfg(feature = "serde")]
mod number {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Named(String),
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields like this")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        let infinite = *value == f64::INFINITY;
        let number = if infinite { Number::Named("inf".to_owned()) } else { Number::Finite(*value) };
        number.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Number::deserialize(deserializer)? {
            Number::Finite(value) => Ok(value),
            Number::Named(name) if name == "inf" => Ok(f64::INFINITY),
            Number::Named(name) => Err(D::Error::custom(format!("{name:?} is no number; give one, or \"inf\""))),
        }
    }
}

#[cfg(feature = "serde")]
fn default_window() -> u32 {
    DEFAULT_WINDOW
}

#[cfg(feature = "serde")]
fn default_eps() -> f64 {
    DEFAULT_EPS
}

/// Of the norm of parameters, in adaptive clipping.
const DEFAULT_EPS: f64 = 1e-3;
const DEFAULT_WINDOW: u32 = 100;
/// Norms that [`Clip::percentile`] can look back on.
const MAX_WINDOW: u32 = 4096;
/// Orders above add nothing to infinity's, and the powers of what the kernels sum would overflow.
const MAX_ORDER: f64 = 32.0;

impl Clip {
    /// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, with the norm over every element that is not frozen:
    /// PyTorch's `clip_grad_norm_`. The norm is Euclidean unless [`Clip::with_norm_type`] says otherwise.
    /// `f64::INFINITY` measures the norm and clips nothing.
    pub fn global_norm(max_norm: f64) -> Self {
        Self::new(Kind::GlobalNorm { max_norm, norm_type: 2.0, exact: false })
    }

    /// Clamps every gradient to `-clip_value..=clip_value`, after the gradient scale: PyTorch's `clip_grad_value_`, optax's
    /// `clip`. It takes no pass of its own; infinities become `clip_value` where the policy lets them through, NaN stays.
    pub fn value(clip_value: f64) -> Self {
        Self::new(Kind::Value { clip_value })
    }

    /// Clips by global norm at a percentile (0 to 100, interpolated as `numpy.percentile`) of the last 100 norms, this
    /// step's among them: `AutoClip` ([arXiv 2007.14469](https://arxiv.org/abs/2007.14469), whose default is 10). The norms
    /// stay on the device; those that are not finite are left out.
    pub fn percentile(percentile: f64) -> Self {
        Self::new(Kind::Percentile { percentile, window: DEFAULT_WINDOW, norm_type: 2.0, exact: false })
    }

    /// Scales the gradients of each group of the layout by `min(1, max_norm / (norm + 1e-6))` with the Euclidean norm of the
    /// group (elements without one are another group): PyTorch's `clip_grad_norm_` called for each. It takes two dispatches
    /// more than the global norm, and 8 bytes per parameter and 4 per state, as rules with sums over tensors do; those cannot
    /// be clipped like this. Gradients that a scale below 1 brings beyond f32 are not clipped but infinite.
    pub fn group_norm(max_norm: f64) -> Self {
        Self::new(Kind::GroupNorm { max_norm, exact: false })
    }

    /// Adaptive gradient clipping ([arXiv 2102.06171](https://arxiv.org/abs/2102.06171)): where the norm of a unit's gradients
    /// is above `clip_factor` (0.01 in the paper) times that of its parameters, which counts as 1e-3 at least
    /// ([`Clip::with_eps`]), they are scaled down to it. A unit is an index of a tensor's first dimension, or a whole tensor of
    /// one dimension, as timm has it; see [`Clip::per_tensor`]. It costs what [`Clip::group_norm`] costs.
    pub fn adaptive(clip_factor: f64) -> Self {
        Self::new(Kind::Adaptive { clip_factor, eps: DEFAULT_EPS, per_tensor: false })
    }

    fn new(kind: Kind) -> Self {
        Self { kind, foreign: None }
    }

    /// The order of the norm: 1, 2 (default), `f64::INFINITY` for the largest absolute value, or any p from 1 to 32 for
    /// `(Σ|g|ᵖ)^(1/p)`, as PyTorch's `norm_type`.
    #[must_use]
    pub fn with_norm_type(mut self, p: f64) -> Self {
        match &mut self.kind {
            Kind::GlobalNorm { norm_type, .. } | Kind::Percentile { norm_type, .. } => *norm_type = p,
            _ => self.foreign = self.foreign.or(Some(("norm_type", p))),
        }
        self
    }

    /// Scales by `max_norm / norm` where the norm is above `max_norm`, without the 1e-6 of PyTorch: optax's
    /// `clip_by_global_norm`.
    #[must_use]
    pub fn exact(mut self) -> Self {
        match &mut self.kind {
            Kind::GlobalNorm { exact, .. } | Kind::GroupNorm { exact, .. } | Kind::Percentile { exact, .. } => {
                *exact = true;
            }
            _ => self.foreign = self.foreign.or(Some(("exact", 1.0))),
        }
        self
    }

    /// The least norm of parameters that [`Clip::adaptive`] reckons with (default 1e-3), so that they can leave 0.
    #[must_use]
    pub fn with_eps(mut self, least: f64) -> Self {
        match &mut self.kind {
            Kind::Adaptive { eps, .. } => *eps = least,
            _ => self.foreign = self.foreign.or(Some(("eps", least))),
        }
        self
    }

    /// [`Clip::adaptive`] by norms of whole tensors.
    #[must_use]
    pub fn per_tensor(mut self) -> Self {
        match &mut self.kind {
            Kind::Adaptive { per_tensor, .. } => *per_tensor = true,
            _ => self.foreign = self.foreign.or(Some(("per_tensor", 1.0))),
        }
        self
    }

    /// How many norms [`Clip::percentile`] looks at (default 100), from 1 to 4,096.
    #[must_use]
    pub fn with_window(mut self, steps: u32) -> Self {
        match &mut self.kind {
            Kind::Percentile { window, .. } => *window = steps,
            _ => self.foreign = self.foreign.or(Some(("window", steps.into()))),
        }
        self
    }

    fn name(self) -> &'static str {
        match self.kind {
            Kind::GlobalNorm { .. } => "clip",
            Kind::Value { .. } => "clip by value",
            Kind::GroupNorm { .. } => "clip by norms of groups",
            Kind::Adaptive { .. } => "adaptive clip",
            Kind::Percentile { .. } => "clip by percentile",
        }
    }

    pub(crate) fn validate(self) -> Result<(), Error> {
        if let Some((option, value)) = self.foreign {
            return check(false, self.name(), option, value, "nothing: another kind of clipping has this option");
        }
        let owner = self.name();
        let positive = |value: f64| value as f32 >= f32::MIN_POSITIVE;
        let finite = |name, value: f64| {
            let fits = positive(value) && (value as f32).is_finite();
            check(fits, owner, name, value, "1.2e-38 (the least normal f32) or more, finite in f32")
        };
        match self.kind {
            Kind::GlobalNorm { max_norm, .. } => {
                let allowed = "1.2e-38 (the least normal f32) or more; infinity measures only";
                check(positive(max_norm), owner, "max_norm", max_norm, allowed)?;
            }
            Kind::Value { clip_value } => finite("clip_value", clip_value)?,
            Kind::GroupNorm { max_norm, .. } => finite("max_norm", max_norm)?,
            Kind::Adaptive { clip_factor, eps, .. } => {
                finite("clip_factor", clip_factor)?;
                finite("eps", eps)?;
            }
            Kind::Percentile { percentile, window, .. } => {
                check((0.0..=100.0).contains(&percentile), owner, "percentile", percentile, "0 to 100")?;
                check((1..=MAX_WINDOW).contains(&window), owner, "window", window.into(), "1 to 4096")?;
            }
        }
        let Some(norm_type) = self.norm_type() else { return Ok(()) };
        let fits = (1.0..=MAX_ORDER).contains(&norm_type) || norm_type == f64::INFINITY;
        check(fits, owner, "norm_type", norm_type, "1 to 32, or infinity")
    }

    fn norm_type(self) -> Option<f64> {
        match self.kind {
            Kind::GlobalNorm { norm_type, .. } | Kind::Percentile { norm_type, .. } => Some(norm_type),
            _ => None,
        }
    }

    /// Whether the step takes a norm.
    pub(crate) fn measures(self) -> bool {
        self.norm_type().is_some()
    }

    /// What the kernels compare the norm with, unless it is only measured: the largest norm, or the fraction of the norms
    /// before that may be above it.
    pub(crate) fn limit(self) -> Option<f32> {
        match self.kind {
            Kind::GlobalNorm { max_norm, .. } => max_norm.is_finite().then_some((max_norm as f32).min(f32::MAX)),
            Kind::Percentile { percentile, .. } => Some((percentile / 100.0) as f32),
            _ => None,
        }
    }

    /// Whether the coefficient is without PyTorch's 1e-6.
    pub(crate) fn is_exact(self) -> bool {
        matches!(self.kind, Kind::GlobalNorm { exact: true, .. } | Kind::Percentile { exact: true, .. })
    }
}

/// What of clipping is compiled into the kernels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClipForm {
    pub(crate) norm: Norm,
    /// The largest absolute value of a gradient.
    pub(crate) value: Option<f32>,
    /// How many norms the percentile is of.
    pub(crate) window: Option<u32>,
    /// Clipping by the norms of segments.
    pub(crate) segments: Option<SegmentClip>,
}

/// Clipping by the norms of segments; see [`ClippedRule`](crate::rule::ClippedRule).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SegmentClip {
    /// The largest norm, or what it is of the parameters' norm.
    pub(crate) limit: f32,
    /// What is added to the norm, or the least norm of parameters.
    pub(crate) eps: f32,
    pub(crate) by_params: bool,
    pub(crate) segmentation: Segmentation,
}

impl ClipForm {
    pub(crate) fn new(clip: Option<Clip>) -> Self {
        let norm = match clip.and_then(Clip::norm_type).unwrap_or(2.0) {
            1.0 => Norm::One,
            2.0 => Norm::Two,
            f64::INFINITY => Norm::Infinity,
            p => Norm::P(p as f32),
        };
        let mut form = Self { norm, value: None, window: None, segments: None };
        match clip.map(|clip| clip.kind) {
            Some(Kind::Value { clip_value }) => form.value = Some(clip_value as f32),
            Some(Kind::Percentile { window, .. }) => form.window = Some(window),
            Some(Kind::GroupNorm { max_norm, exact }) => {
                let (limit, eps) = (max_norm as f32, if exact { 0.0 } else { 1e-6 });
                let segmentation = Segmentation::Groups;
                form.segments = Some(SegmentClip { limit, eps, by_params: false, segmentation });
            }
            Some(Kind::Adaptive { clip_factor, eps, per_tensor }) => {
                let (limit, eps) = (clip_factor as f32, eps as f32);
                let segmentation = if per_tensor { Segmentation::Tensors } else { Segmentation::Units };
                form.segments = Some(SegmentClip { limit, eps, by_params: true, segmentation });
            }
            Some(Kind::GlobalNorm { .. }) | None => {}
        }
        form
    }
}

/// The order of the global norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Norm {
    One,
    Two,
    Infinity,
    P(f32),
}

/// What a step does when a gradient is NaN or infinite.
///
/// Unless set, a step that measures the norm anyway (clipping by norms, a gradient scale, a rule with norms of tensors)
/// takes [`NonFinite::Skip`], and a bare one takes [`NonFinite::Propagate`].
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
