use super::check_norm_type;
use crate::Error;
use crate::error::check;

const DEFAULT_WINDOW: u32 = 100;
const MAX_WINDOW: u32 = 4096;

/// Clips by global norm at a percentile of the last norms, this step's included: `AutoClip`
/// ([arXiv 2007.14469](https://arxiv.org/abs/2007.14469)). The norms stay on the device; non-finite ones are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Percentile {
    /// 0 to 100, interpolated as `numpy.percentile`; 10 in the paper.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub percentile: f64,
    /// Number of norms, from 1 to 4,096; default 100.
    #[cfg_attr(feature = "serde", serde(default = "default_window"))]
    pub window: u32,
    /// As [`GlobalNorm::norm_type`](super::GlobalNorm::norm_type); default 2.
    #[cfg_attr(feature = "serde", serde(default = "super::euclidean", with = "crate::number"))]
    pub norm_type: f64,
    /// As [`GlobalNorm::exact`](super::GlobalNorm::exact); default false.
    #[cfg_attr(feature = "serde", serde(default))]
    pub exact: bool,
}

#[cfg(feature = "serde")]
fn default_window() -> u32 {
    DEFAULT_WINDOW
}

impl Percentile {
    /// By the last 100 Euclidean norms.
    pub fn new(percentile: f64) -> Self {
        Self { percentile, window: DEFAULT_WINDOW, norm_type: 2.0, exact: false }
    }

    /// Sets [`Percentile::window`].
    #[must_use]
    pub fn with_window(mut self, steps: u32) -> Self {
        self.window = steps;
        self
    }

    /// Sets [`Percentile::norm_type`].
    #[must_use]
    pub fn with_norm_type(mut self, p: f64) -> Self {
        self.norm_type = p;
        self
    }

    /// Sets [`Percentile::exact`].
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        let owner = "clip by percentile";
        check((0.0..=100.0).contains(&self.percentile), owner, "percentile", self.percentile, "0 to 100")?;
        check((1..=MAX_WINDOW).contains(&self.window), owner, "window", self.window.into(), "1 to 4096")?;
        check_norm_type(owner, self.norm_type)
    }
}
