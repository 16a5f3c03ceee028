use super::kind::{Named, kind};
use crate::Error;

/// Whether a metric gets better by falling or by rising: PyTorch's `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum PlateauMode {
    /// Smaller is better, as of a loss.
    Min,
    /// Greater is better, as of an accuracy.
    Max,
}

/// What a threshold is measured in: PyTorch's `threshold_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum ThresholdMode {
    /// As a part of the best value.
    Rel,
    /// As a difference from it.
    Abs,
}

kind! {
    /// PyTorch's `ReduceLROnPlateau`: multiplies the learning rate by `factor` when a metric has not got better for more
    /// than `patience` calls of [`step`](Self::step).
    ///
    /// It is no function of the step, so no [`Schedule`](crate::Schedule): call it once per epoch and hand what it gives to
    /// `set_lr` of the optimizer. Serialized, it keeps its place.
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
        /// The learning rate as of the last step.
        lr: f64,
        ..
        /// Whether to wait for smaller or for greater metrics (default [`PlateauMode::Min`]).
        mode: PlateauMode = PlateauMode::Min, with_mode;
        /// Factor of each reduction, 0 to below 1 (default 0.1).
        factor: f64 = 0.1, with_factor;
        /// Calls without improvement that are let pass (default 10).
        patience: u64 = 10, with_patience;
        /// What counts as an improvement (default 1e-4).
        threshold: f64 = 1e-4, with_threshold;
        /// What `threshold` is measured in (default [`ThresholdMode::Rel`]).
        threshold_mode: ThresholdMode = ThresholdMode::Rel, with_threshold_mode;
        /// Calls after a reduction that do not count as bad (default 0).
        cooldown: u64 = 0, with_cooldown;
        /// The learning rate is not brought below it (default 0).
        min_lr: f64 = 0.0, with_min_lr;
        /// Reductions by no more than this are left out (default 1e-8).
        eps: f64 = 1e-8, with_eps;
        /// The best metric so far (default `None`: there was no call yet).
        best: Option<f64> = None, with_best;
        /// Bad calls since then (default 0).
        num_bad_epochs: u64 = 0, with_num_bad_epochs;
        /// Calls of the cooldown that are left (default 0).
        cooldown_counter: u64 = 0, with_cooldown_counter;
    }
}

impl ReduceLROnPlateau {
    /// Takes the metric of an epoch; gives the learning rate of the next. A NaN is no improvement.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for a field out of range; nothing has changed then.
    pub fn step(&mut self, metric: f64) -> Result<f64, Error> {
        self.validate()?;
        if self.is_better(metric) {
            self.best = Some(metric);
            self.num_bad_epochs = 0;
        } else {
            self.num_bad_epochs += 1;
        }
        if self.cooldown_counter > 0 {
            self.cooldown_counter -= 1;
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
