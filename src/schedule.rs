use std::f64::consts::PI;

use crate::Error;
use crate::error::check;
use crate::groups::is_rate;

/// The learning rate as a pure function of the step, in f64 on the host.
///
/// Steps count calls of `step` from 0, also those that skip, as PyTorch's schedulers and optax count.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Schedule(Kind);

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)
)]
enum Kind {
    Constant {
        lr: f64,
    },
    WarmupCosine {
        lr: f64,
        warmup_steps: u64,
        total_steps: u64,
        #[cfg_attr(feature = "serde", serde(default))]
        min_lr: f64,
    },
}

impl Schedule {
    /// The same learning rate at every step.
    pub fn constant(lr: f64) -> Self {
        Self(Kind::Constant { lr })
    }

    /// Rises linearly from 0 at step 0 to `peak_lr` at step `warmup_steps`, then falls along half a cosine to 0
    /// at step `total_steps` and stays there. Equals optax's `warmup_cosine_decay_schedule(0, peak_lr,
    /// warmup_steps, total_steps)` and Hugging Face's `get_cosine_schedule_with_warmup`.
    pub fn warmup_cosine(peak_lr: f64, warmup_steps: u64, total_steps: u64) -> Self {
        Self(Kind::WarmupCosine { lr: peak_lr, warmup_steps, total_steps, min_lr: 0.0 })
    }

    /// The learning rate a decaying schedule ends at instead of 0 (optax's `end_value`). A constant one keeps its own.
    #[must_use]
    pub fn with_min_lr(mut self, lr: f64) -> Self {
        if let Kind::WarmupCosine { min_lr, .. } = &mut self.0 {
            *min_lr = lr;
        }
        self
    }

    /// The learning rate at a step, counted from 0.
    pub fn lr(&self, step: u64) -> f64 {
        match self.0 {
            Kind::Constant { lr } => lr,
            Kind::WarmupCosine { lr: peak_lr, warmup_steps, total_steps, min_lr } => {
                if step < warmup_steps {
                    return peak_lr * step as f64 / warmup_steps as f64;
                }
                if step >= total_steps {
                    return min_lr;
                }
                let progress = (step - warmup_steps) as f64 / (total_steps - warmup_steps) as f64;
                min_lr + (peak_lr - min_lr) * 0.5 * (1.0 + (PI * progress).cos())
            }
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let allowed = "0 or greater, finite in f32";
        match self.0 {
            Kind::Constant { lr } => check(is_rate(lr), "constant schedule", "lr", lr, allowed),
            Kind::WarmupCosine { lr: peak_lr, warmup_steps, total_steps, min_lr } => {
                let owner = "warmup_cosine schedule";
                check(is_rate(peak_lr), owner, "lr", peak_lr, allowed)?;
                check(is_rate(min_lr) && min_lr <= peak_lr, owner, "min_lr", min_lr, "0 to lr")?;
                let total = total_steps as f64;
                check(
                    total_steps > 0 && total_steps >= warmup_steps,
                    owner,
                    "total_steps",
                    total,
                    "at least 1 and warmup_steps",
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warmup_cosine_meets_its_corners() {
        let schedule = Schedule::warmup_cosine(2.0, 10, 110).with_min_lr(0.5);
        assert_eq!(schedule.lr(0), 0.0);
        assert_eq!(schedule.lr(5), 1.0);
        assert_eq!(schedule.lr(10), 2.0);
        assert!((schedule.lr(60) - 1.25).abs() < 1e-12);
        assert_eq!([schedule.lr(110), schedule.lr(u64::MAX)], [0.5, 0.5]);
    }

    #[test]
    fn without_warmup_it_starts_at_the_peak() {
        assert_eq!(Schedule::warmup_cosine(2.0, 0, 100).lr(0), 2.0);
    }
}
