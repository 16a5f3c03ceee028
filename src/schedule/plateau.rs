use super::kind::{Named, kind};
use crate::Error;

/// Whether smaller or greater metrics are better: PyTorch's `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum PlateauMode {
    /// Smaller is better, as for a loss.
    Min,
    /// Greater is better, as for an accuracy.
    Max,
}

#[cfg(feature = "serde")]
crate::number::as_is!(PlateauMode);

/// The unit of `threshold`: PyTorch's `threshold_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum ThresholdMode {
    /// Relative to the best metric.
    Rel,
    /// Absolute.
    Abs,
}

#[cfg(feature = "serde")]
crate::number::as_is!(ThresholdMode);

kind! {
    /// PyTorch's `ReduceLROnPlateau`: multiplies the learning rate by `factor` when a metric has not improved for more
    /// than `patience` calls of [`step`](Self::step).
    ///
    /// It is not a [`Schedule`](crate::Schedule), because it depends on a metric. Call it once per epoch and pass the
    /// result to the optimizer's `set_lr`. Serialization includes its state; an infinite `best` is `"inf"` or `"-inf"`.
    ///
    /// ```
    /// use wgpu_optim::{Layout, Optimizer, Sgd, schedule::ReduceLROnPlateau};
    /// let mut optimizer = Optimizer::builder(Sgd::default()).build_cpu(&Layout::flat(1)?)?;
    /// let mut plateau = ReduceLROnPlateau::new(0.25).with_patience(1).with_factor(0.5);
    /// for loss in [1.0, 0.5, 0.5, 0.5] {
    ///     optimizer.set_lr(plateau.step(loss)?)?;
    /// }
    /// assert_eq!(optimizer.lr()?, 0.125);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ReduceLROnPlateau = "reduce_lr_on_plateau" {
        /// The current learning rate.
        lr: f64,
        ..
        /// Whether smaller or greater metrics are better (default [`PlateauMode::Min`]).
        mode: PlateauMode = PlateauMode::Min, with_mode;
        /// Factor of each reduction, 0 to below 1 (default 0.1).
        factor: f64 = 0.1, with_factor;
        /// Calls without improvement before a reduction (default 10).
        patience: u64 = 10, with_patience;
        /// Minimum change that counts as an improvement (default 1e-4).
        threshold: f64 = 1e-4, with_threshold;
        /// The unit of `threshold` (default [`ThresholdMode::Rel`]).
        threshold_mode: ThresholdMode = ThresholdMode::Rel, with_threshold_mode;
        /// Calls after a reduction that do not count towards `patience` (default 0).
        cooldown: u64 = 0, with_cooldown;
        /// Minimum learning rate (default 0).
        min_lr: f64 = 0.0, with_min_lr;
        /// Reductions by this much or less are skipped (default 1e-8).
        eps: f64 = 1e-8, with_eps;
        /// The best metric so far (default `None`: no call yet).
        best: Option<f64> = None, with_best;
        /// Calls without improvement since the best metric or the last reduction (default 0).
        num_bad_epochs: u64 = 0, with_num_bad_epochs;
        /// Remaining calls of the cooldown (default 0).
        cooldown_counter: u64 = 0, with_cooldown_counter;
    }
}

impl ReduceLROnPlateau {
    /// Updates the state with the metric of an epoch. Returns the learning rate of the next epoch. NaN is no
    /// improvement.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for a field out of range; the state is then unchanged.
    pub fn step(&mut self, metric: f64) -> Result<f64, Error> {
        self.validate()?;
        if self.is_better(metric) {
            self.best = Some(metric);
            self.num_bad_epochs = 0;
        } else {
            self.num_bad_epochs = self.num_bad_epochs.saturating_add(1);
        }
        if let Some(rest) = self.cooldown_counter.checked_sub(1) {
            self.cooldown_counter = rest;
            self.num_bad_epochs = 0;
        }
        if self.num_bad_epochs > self.patience {
            let reduced = (self.lr * self.factor).max(self.min_lr);
            if self.lr - reduced > self.eps {
                self.lr = reduced;
            }
            self.cooldown_counter = self.cooldown;
            self.num_bad_epochs = 0;
        }
        Ok(self.lr)
    }

    fn is_better(&self, metric: f64) -> bool {
        let worst = if self.mode == PlateauMode::Min { f64::INFINITY } else { f64::NEG_INFINITY };
        let best = self.best.unwrap_or(worst);
        match (self.mode, self.threshold_mode) {
            (PlateauMode::Min, ThresholdMode::Rel) => metric < best * (1.0 - self.threshold),
            (PlateauMode::Min, ThresholdMode::Abs) => metric < best - self.threshold,
            (PlateauMode::Max, ThresholdMode::Rel) => metric > best * (1.0 + self.threshold),
            (PlateauMode::Max, ThresholdMode::Abs) => metric > best + self.threshold,
        }
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check((0.0..1.0).contains(&self.factor), "factor", self.factor, "0 to below 1")?;
        Self::check_rate("threshold", self.threshold)?;
        Self::check_rate("min_lr", self.min_lr)?;
        Self::check_rate("eps", self.eps)
    }
}
