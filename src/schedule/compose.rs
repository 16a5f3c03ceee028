use std::fmt;
use std::sync::Arc;

use super::Schedule;
use super::kind::{Kind, Named, kind};
use crate::Error;

kind! {
    /// PyTorch's `SequentialLR`: schedules in sequence. Each starts at its milestone, which is its step 0.
    Sequential = "sequential" {
        /// The schedules, at least one.
        schedulers: Vec<Schedule>,
        /// The start steps of the second and later schedules, ascending: one fewer than schedules.
        milestones: Vec<u64>,
    }
}

impl Sequential {
    /// The schedules that have begun by `step`, each with its first step.
    fn begun(&self, step: u64) -> Vec<(&Schedule, u64)> {
        let starts = [0].into_iter().chain(self.milestones.iter().copied());
        self.schedulers.iter().zip(starts).take_while(|(_, start)| *start <= step).collect()
    }
}

impl Kind for Sequential {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let begun = self.begun(step);
        begun.last().map_or(Ok(0.0), |(schedule, start)| schedule.value(step.saturating_sub(*start)))
    }

    fn momentum(&self, step: u64) -> Result<Option<f64>, Error> {
        let (begun, mut last) = (self.begun(step), step);
        for (schedule, start) in begun.iter().rev() {
            if let Some(momentum) = schedule.momentum_value(last.saturating_sub(*start))? {
                return Ok(Some(momentum));
            }
            last = start.saturating_sub(1);
        }
        let later = self.schedulers.iter().skip(begun.len());
        later.map(|schedule| schedule.momentum_value(0)).find_map(Result::transpose).transpose()
    }

    fn validate(&self) -> Result<(), Error> {
        let count = self.schedulers.len();
        Self::check(count > 0, "schedulers", count as f64, "at least 1")?;
        let milestones = self.milestones.len();
        Self::check(
            milestones.saturating_add(1) == count,
            "milestones",
            milestones as f64,
            "one fewer than schedulers",
        )?;
        for (before, milestone) in self.milestones.iter().zip(self.milestones.iter().skip(1)) {
            Self::check(before < milestone, "milestones", *milestone as f64, "ascending steps")?;
        }
        self.schedulers.iter().try_for_each(Schedule::validate)
    }
}

kind! {
    /// The product of the schedules' learning rates. Usually one has the base learning rate, and the others have a
    /// learning rate of 1. Equals PyTorch's `ChainedScheduler` for schedules that only multiply the learning rate,
    /// which excludes [`Cyclic`] and schedules with `eta_min`.
    ///
    /// [`Cyclic`]: super::Cyclic
    Chained = "chained" {
        /// The schedules, at least one.
        schedulers: Vec<Schedule>,
    }
}

impl Kind for Chained {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        self.schedulers.iter().try_fold(1.0, |product, schedule| Ok(product * schedule.value(step)?))
    }

    fn momentum(&self, step: u64) -> Result<Option<f64>, Error> {
        self.schedulers.iter().find_map(|schedule| schedule.momentum_value(step).transpose()).transpose()
    }

    fn validate(&self) -> Result<(), Error> {
        let count = self.schedulers.len();
        Self::check(count > 0, "schedulers", count as f64, "at least 1")?;
        self.schedulers.iter().try_for_each(Schedule::validate)
    }
}

/// PyTorch's `LambdaLR`: `lr * lr_lambda(step)`. Not available in configuration files: serializing it is an error.
#[derive(Clone)]
pub struct Lambda {
    /// The base learning rate, which the function's value multiplies.
    pub lr: f64,
    lr_lambda: Arc<dyn Fn(u64) -> f64 + Send + Sync>,
}

impl Lambda {
    /// `lr_lambda` returns the factor for a step, from 0. A product that is negative or not finite in f32 is an error
    /// of that step.
    pub fn new(lr: f64, lr_lambda: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Self { lr, lr_lambda: Arc::new(lr_lambda) }
    }
}

impl Named for Lambda {
    const NAME: &'static str = "lambda";
}

impl Kind for Lambda {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        Ok(self.lr * (self.lr_lambda)(step))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)
    }
}

impl PartialEq for Lambda {
    /// Whether `lr` is equal and both share one closure.
    fn eq(&self, other: &Self) -> bool {
        self.lr == other.lr && Arc::ptr_eq(&self.lr_lambda, &other.lr_lambda)
    }
}

impl fmt::Display for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(lr={:?}, lr_lambda=closure)", Self::NAME, self.lr)
    }
}

impl fmt::Debug for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Lambda {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a lambda schedule is a closure, which no file can hold; name another schedule"))
    }
}
