use super::Schedule;
use super::kind::{Kind, Named, cosine, kind, linear};
use crate::Error;

/// The shape of a [`Warmup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum WarmupType {
    /// Along a line.
    Linear,
    /// Along half a cosine.
    Cosine,
    /// Constant at `start_factor`.
    Constant,
}

#[cfg(feature = "serde")]
crate::number::as_is!(WarmupType);

kind! {
    /// A warm-up before any schedule: multiplies the schedule's first learning rate by a factor that rises from
    /// `start_factor` to 1 over `warmup_steps` steps. Then the schedule begins at its step 0. Equals PyTorch's
    /// `SequentialLR` of `LinearLR` or `ConstantLR` and the schedule; optax's `join_schedules`.
    Warmup = "warmup" {
        /// The schedule after the warm-up; see also [`Schedule::with_warmup`].
        schedule: Box<Schedule>,
        /// Steps of the warm-up; 0 for no warm-up.
        warmup_steps: u64,
        ..
        /// Shape of the rise (default [`WarmupType::Linear`]).
        warmup_type: WarmupType = WarmupType::Linear, with_warmup_type;
        /// Factor of step 0 (default 0; [`WarmupType::Constant`] requires a factor above 0).
        start_factor: f64 = 0.0, with_start_factor;
    }
}

impl Kind for Warmup {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        if let Some(step) = step.checked_sub(self.warmup_steps) {
            return self.schedule.value(step);
        }
        let part = step as f64 / self.warmup_steps as f64;
        let factor = match self.warmup_type {
            WarmupType::Linear => linear(self.start_factor, 1.0, part),
            WarmupType::Cosine => cosine(self.start_factor, 1.0, part),
            WarmupType::Constant => self.start_factor,
        };
        Ok(factor * self.schedule.value(0)?)
    }

    fn momentum(&self, step: u64) -> Result<Option<f64>, Error> {
        self.schedule.momentum_value(step.saturating_sub(self.warmup_steps))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("start_factor", self.start_factor)?;
        let moves = self.warmup_type != WarmupType::Constant || self.start_factor > 0.0;
        Self::check(moves, "start_factor", self.start_factor, "above 0 for a constant warm-up")?;
        self.schedule.validate()
    }
}

/// The shape of the decay of [`WarmupStableDecay`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum DecayType {
    /// Along a line.
    Linear,
    /// Along half a cosine.
    Cosine,
    /// As `1 - √part` (Hägele et al., arXiv 2405.18392); `"1-sqrt"` in configuration files.
    #[cfg_attr(feature = "serde", serde(rename = "1-sqrt"))]
    OneMinusSqrt,
}

#[cfg(feature = "serde")]
crate::number::as_is!(DecayType);

kind! {
    /// Warm-up, stable, decay: Hugging Face's `get_wsd_schedule`. Rises linearly from `min_lr` to `lr`, stays at `lr`,
    /// then decays to `min_lr` and stays there.
    WarmupStableDecay = "warmup_stable_decay" {
        /// The largest learning rate.
        lr: f64,
        /// Steps of the rise.
        warmup_steps: u64,
        /// Steps at `lr`.
        stable_steps: u64,
        /// Steps of the fall.
        decay_steps: u64,
        ..
        /// The shape of the decay (default [`DecayType::Cosine`]).
        decay_type: DecayType = DecayType::Cosine, with_decay_type;
        /// Learning rate at step 0 and after the decay (default 0); Hugging Face's `min_lr_ratio` times `lr`.
        min_lr: f64 = 0.0, with_min_lr;
    }
}

impl Kind for WarmupStableDecay {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let Self { lr, warmup_steps, decay_steps, min_lr, .. } = *self;
        if step < warmup_steps {
            return Ok(linear(min_lr, lr, step as f64 / warmup_steps as f64));
        }
        let decayed = step.saturating_sub(warmup_steps.saturating_add(self.stable_steps));
        if decayed >= decay_steps {
            return Ok(if step.saturating_sub(warmup_steps) < self.stable_steps { lr } else { min_lr });
        }
        let part = decayed as f64 / decay_steps as f64;
        Ok(match self.decay_type {
            DecayType::Linear => linear(lr, min_lr, part),
            DecayType::Cosine => cosine(lr, min_lr, part),
            DecayType::OneMinusSqrt => linear(lr, min_lr, part.sqrt()),
        })
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check_rate("min_lr", self.min_lr)
    }
}
