use super::kind::{Kind, Named, cosine, kind};
use crate::Error;

kind! {
    /// PyTorch's `CosineAnnealingLR`: anneals from `lr` to `eta_min` at step `T_max` along a half cosine. After `T_max`
    /// it rises again, as in PyTorch, and reaches `lr` at step `2·T_max`. [`WarmupCosine`] stays at its minimum
    /// instead.
    Cosine = "cosine" {
        /// Learning rate of step 0.
        lr: f64,
        /// Steps to the minimum, at least 1.
        t_max as "T_max": u64,
        ..
        /// Learning rate of the minimum (default 0).
        eta_min: f64 = 0.0, with_eta_min;
    }
}

impl Kind for Cosine {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let steps = step.checked_rem(self.t_max.saturating_mul(2)).unwrap_or_default();
        Ok(cosine(self.lr, self.eta_min, steps as f64 / self.t_max as f64))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check_rate("eta_min", self.eta_min)?;
        Self::check_count("T_max", self.t_max)
    }
}

kind! {
    /// PyTorch's `CosineAnnealingWarmRestarts` (SGDR, arXiv 1608.03983): anneals from `lr` towards `eta_min` along a
    /// half cosine over `T_0` steps, then restarts at `lr`. Each cycle is `T_mult` times as long as the previous one.
    CosineWarmRestarts = "cosine_warm_restarts" {
        /// Learning rate at each restart.
        lr: f64,
        /// Steps to the first restart, at least 1.
        t_0 as "T_0": u64,
        ..
        /// Length of a cycle divided by that of the previous one, at least 1 (default 1).
        t_mult as "T_mult": u64 = 1, with_t_mult;
        /// Learning rate that each cycle approaches (default 0).
        eta_min: f64 = 0.0, with_eta_min;
    }
}

impl Kind for CosineWarmRestarts {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let (mut since_restart, mut run) = (step, self.t_0);
        if self.t_mult == 1 {
            since_restart = since_restart.checked_rem(run).unwrap_or_default();
        }
        while let Some(rest) = since_restart.checked_sub(run) {
            since_restart = rest;
            run = run.saturating_mul(self.t_mult);
        }
        Ok(cosine(self.lr, self.eta_min, since_restart as f64 / run as f64))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check_rate("eta_min", self.eta_min)?;
        Self::check_count("T_0", self.t_0)?;
        Self::check_count("T_mult", self.t_mult)
    }
}

kind! {
    /// Rises linearly from 0 at step 0 to `lr` at step `warmup_steps`, then falls along half a cosine to `min_lr` at step
    /// `total_steps` and stays there. Equals optax's `warmup_cosine_decay_schedule(0, lr, warmup_steps, total_steps,
    /// min_lr)` and, with `min_lr` 0, Hugging Face's `get_cosine_schedule_with_warmup`.
    WarmupCosine = "warmup_cosine" {
        /// The largest learning rate.
        lr: f64,
        /// Steps of the rise; 0 starts at `lr`.
        warmup_steps: u64,
        /// Steps of rise and fall together: at least 1, and at least `warmup_steps`.
        total_steps: u64,
        ..
        /// Final learning rate, at most `lr` (default 0); optax's `end_value`.
        min_lr: f64 = 0.0, with_min_lr;
    }
}

impl Kind for WarmupCosine {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let Self { lr, warmup_steps, total_steps, min_lr } = *self;
        let Some(since_warmup) = step.checked_sub(warmup_steps) else {
            return Ok(lr * step as f64 / warmup_steps as f64);
        };
        if step >= total_steps {
            return Ok(min_lr);
        }
        Ok(cosine(lr, min_lr, since_warmup as f64 / total_steps.saturating_sub(warmup_steps) as f64))
    }

    fn validate(&self) -> Result<(), Error> {
        let Self { lr, warmup_steps, total_steps, min_lr } = *self;
        Self::check_rate("lr", lr)?;
        Self::check(min_lr >= 0.0 && min_lr <= lr, "min_lr", min_lr, "0 to lr")?;
        let long_enough = total_steps > 0 && total_steps >= warmup_steps;
        Self::check(long_enough, "total_steps", total_steps as f64, "at least 1 and warmup_steps")
    }
}
