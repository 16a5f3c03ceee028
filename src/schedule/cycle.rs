use super::kind::{Kind, Named, cosine, kind, linear};
use crate::Error;

/// The annealing of [`OneCycle`]: PyTorch's `anneal_strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum AnnealStrategy {
    /// Along a half cosine.
    Cos,
    /// Along a line.
    Linear,
}

#[cfg(feature = "serde")]
crate::number::as_is!(AnnealStrategy);

kind! {
    /// PyTorch's `OneCycleLR` (Smith and Topin, arXiv 1708.07120): rises from `max_lr/div_factor` to `max_lr`, then
    /// falls to `max_lr/div_factor/final_div_factor` at step `total_steps - 1`. Steps after `total_steps` are errors.
    /// Step `total_steps` extrapolates, as in PyTorch; with [`AnnealStrategy::Linear`] the result may be negative,
    /// which is an error.
    OneCycle = "one_cycle" {
        /// The largest learning rate.
        max_lr: f64,
        /// Steps of the cycle, at least 1.
        total_steps: u64,
        ..
        /// Fraction of the steps in which the learning rate rises, 0 to 1 (default 0.3).
        pct_start: f64 = 0.3, with_pct_start;
        /// The shape of rise and fall (default [`AnnealStrategy::Cos`]).
        anneal_strategy: AnnealStrategy = AnnealStrategy::Cos, with_anneal_strategy;
        /// `max_lr` divided by the learning rate of step 0, above 0 (default 25).
        div_factor: f64 = 25.0, with_div_factor;
        /// Learning rate of step 0 divided by the final one, above 0 (default 1e4).
        final_div_factor: f64 = 1e4, with_final_div_factor;
        /// Whether to use three phases: a rise, an equally long fall to the learning rate of step 0, and a fall to the
        /// final one (default false).
        three_phase: bool = false, with_three_phase;
        /// Whether to cycle the rule's momentum inversely (default true; an error for rules without `momentum` or
        /// `betas`).
        cycle_momentum: bool = true, with_cycle_momentum;
        /// Momentum where the learning rate is `max_lr`, above 0 and below 1 (default 0.85).
        base_momentum: f64 = 0.85, with_base_momentum;
        /// Momentum of step 0 and of the end, above 0 and below 1 (default 0.95).
        max_momentum: f64 = 0.95, with_max_momentum;
    }
}

impl Kind for OneCycle {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let initial_lr = self.max_lr / self.div_factor;
        self.anneal(step, initial_lr, self.max_lr, initial_lr / self.final_div_factor)
    }

    fn momentum(&self, step: u64) -> Result<Option<f64>, Error> {
        let momentum = || self.anneal(step, self.max_momentum, self.base_momentum, self.max_momentum);
        self.cycle_momentum.then(momentum).transpose()
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("max_lr", self.max_lr)?;
        Self::check_count("total_steps", self.total_steps)?;
        Self::check((0.0..=1.0).contains(&self.pct_start), "pct_start", self.pct_start, "0 to 1")?;
        for (field, value) in [("div_factor", self.div_factor), ("final_div_factor", self.final_div_factor)] {
            Self::check(value > 0.0 && value.is_finite(), field, value, "above 0, finite")?;
        }
        Self::check_momentum("base_momentum", self.base_momentum)?;
        Self::check_momentum("max_momentum", self.max_momentum)
    }
}

impl OneCycle {
    /// Anneals from `initial` to `peak`, with three phases back to `initial`, and to `last`.
    fn anneal(&self, step: u64, initial: f64, peak: f64, last: f64) -> Result<f64, Error> {
        let Self { total_steps, pct_start, .. } = *self;
        if step > total_steps {
            let schedule = Self::NAME;
            return Err(Error::ScheduleEnded { schedule, step, name: "total_steps", steps: total_steps });
        }
        let (at, last_step) = (step as f64, total_steps as f64 - 1.0);
        let risen = pct_start * total_steps as f64 - 1.0;
        let fallen = 2.0 * pct_start * total_steps as f64 - 2.0;
        let (start, end, from, to) = if at <= risen {
            (0.0, risen, initial, peak)
        } else if !self.three_phase {
            (risen, last_step, peak, last)
        } else if at <= fallen {
            (risen, fallen, peak, initial)
        } else {
            (fallen, last_step, initial, last)
        };
        let anneal = match self.anneal_strategy {
            AnnealStrategy::Cos => cosine,
            AnnealStrategy::Linear => linear,
        };
        // A phase without steps is at its end. PyTorch divides by zero here.
        let part = if end > start { (at - start) / (end - start) } else { 1.0 };
        Ok(anneal(from, to, part))
    }
}

/// The amplitude of the cycles of [`Cyclic`]: PyTorch's `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum CyclicMode {
    /// Constant.
    Triangular,
    /// Halved after each cycle.
    Triangular2,
    /// Multiplied by `gammaˢᵗᵉᵖ`.
    ExpRange,
}

#[cfg(feature = "serde")]
crate::number::as_is!(CyclicMode);

kind! {
    /// PyTorch's `CyclicLR` (Smith, arXiv 1506.01186): repeats a linear rise from `base_lr` to `max_lr` over
    /// `step_size_up` steps and a linear fall over `step_size_down` steps.
    Cyclic = "cyclic" {
        /// The minimum learning rate.
        base_lr: f64,
        /// The largest learning rate of the first cycle.
        max_lr: f64,
        ..
        /// Steps of each rise, at least 1 (default 2,000).
        step_size_up: u64 = 2_000, with_step_size_up;
        /// Steps of each fall, at least 1 (default `None`: as many as of a rise).
        step_size_down: Option<u64> = None, with_step_size_down;
        /// The amplitude of later cycles (default [`CyclicMode::Triangular`]).
        mode: CyclicMode = CyclicMode::Triangular, with_mode;
        /// The factor of [`CyclicMode::ExpRange`] (default 1).
        gamma: f64 = 1.0, with_gamma;
        /// Whether to cycle the rule's momentum inversely (default true; an error for rules without `momentum` or
        /// `betas`).
        cycle_momentum: bool = true, with_cycle_momentum;
        /// Momentum where the learning rate is `max_lr`, above 0 and below 1 (default 0.8).
        base_momentum: f64 = 0.8, with_base_momentum;
        /// Momentum where the learning rate is `base_lr`, above 0 and below 1 (default 0.9).
        max_momentum: f64 = 0.9, with_max_momentum;
    }
}

impl Kind for Cyclic {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        Ok(self.base_lr + (self.max_lr - self.base_lr) * self.height(step))
    }

    fn momentum(&self, step: u64) -> Result<Option<f64>, Error> {
        let momentum = || self.max_momentum - (self.max_momentum - self.base_momentum) * self.height(step);
        Ok(self.cycle_momentum.then(momentum))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("base_lr", self.base_lr)?;
        Self::check_rate("max_lr", self.max_lr)?;
        Self::check_rate("gamma", self.gamma)?;
        Self::check_count("step_size_up", self.step_size_up)?;
        Self::check_count("step_size_down", self.step_size_down.unwrap_or(1))?;
        Self::check_momentum("base_momentum", self.base_momentum)?;
        Self::check_momentum("max_momentum", self.max_momentum)
    }
}

impl Cyclic {
    /// The position between minimum and maximum, from 0 to 1 before `gamma` applies.
    fn height(&self, step: u64) -> f64 {
        let (up, down) = (self.step_size_up, self.step_size_down.unwrap_or(self.step_size_up));
        let cycle = up.saturating_add(down);
        let cycles = step.checked_div(cycle).unwrap_or_default();
        let at = step.checked_rem(cycle).unwrap_or_default();
        let height = if at <= up { at as f64 / up as f64 } else { cycle.saturating_sub(at) as f64 / down as f64 };
        let scale = match self.mode {
            CyclicMode::Triangular => 1.0,
            CyclicMode::Triangular2 => 0.5f64.powf(cycles as f64),
            CyclicMode::ExpRange => self.gamma.powf(step as f64),
        };
        height * scale
    }
}
