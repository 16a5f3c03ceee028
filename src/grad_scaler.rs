use crate::Error;
use crate::error::check;

/// Dynamic loss scaling, as `torch.amp.GradScaler`, on the device: see
/// [`OptimizerBuilder::grad_scaler`](crate::OptimizerBuilder::grad_scaler).
///
/// A step with a non-finite gradient is skipped, and multiplies the scale by `backoff_factor`. After `growth_interval`
/// applied steps in a row, the scale is multiplied by `growth_factor`. PyTorch's scale also leaves 1.2e-38 to 8.5e37; this
/// one stays there, where it and its inverse are normal numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct GradScaler {
    /// The first scale; default 65,536.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub init_scale: f64,
    /// Greater than 1; default 2.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub growth_factor: f64,
    /// 1.2e-38 to below 1; default 0.5.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub backoff_factor: f64,
    /// Applied steps, 1 or more; default 2,000.
    pub growth_interval: u32,
}

impl Default for GradScaler {
    fn default() -> Self {
        Self { init_scale: 65_536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2_000 }
    }
}

impl GradScaler {
    /// Sets [`GradScaler::init_scale`].
    #[must_use]
    pub fn with_init_scale(mut self, scale: f64) -> Self {
        self.init_scale = scale;
        self
    }

    /// Sets [`GradScaler::growth_factor`].
    #[must_use]
    pub fn with_growth_factor(mut self, factor: f64) -> Self {
        self.growth_factor = factor;
        self
    }

    /// Sets [`GradScaler::backoff_factor`].
    #[must_use]
    pub fn with_backoff_factor(mut self, factor: f64) -> Self {
        self.backoff_factor = factor;
        self
    }

    /// Sets [`GradScaler::growth_interval`].
    #[must_use]
    pub fn with_growth_interval(mut self, steps: u32) -> Self {
        self.growth_interval = steps;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let Self { init_scale, growth_factor, backoff_factor, growth_interval } = *self;
        let is_scale = is_loss_scale(init_scale as f32);
        check(is_scale, "grad scaler", "init_scale", init_scale, "1.2e-38 to 8.5e37")?;
        let grows = growth_factor as f32 > 1.0 && (growth_factor as f32).is_finite();
        check(grows, "grad scaler", "growth_factor", growth_factor, "greater than 1, finite in f32")?;
        // Devices may flush a subnormal factor.
        let backs_off = backoff_factor as f32 >= f32::MIN_POSITIVE && (backoff_factor as f32) < 1.0;
        check(backs_off, "grad scaler", "backoff_factor", backoff_factor, "1.2e-38 to below 1, in f32")?;
        check(growth_interval > 0, "grad scaler", "growth_interval", growth_interval.into(), "1 or more")
    }
}

/// Whether a scale and its inverse are normal.
pub(crate) fn is_loss_scale(scale: f32) -> bool {
    scale > 0.0 && scale.is_normal() && (1.0 / scale).is_normal()
}
