//! Learning-rate schedules: [`Schedule`] and its kinds, [`ReduceLROnPlateau`], and the learning-rate [`RangeTest`].
// Steps and files come from outside: no arithmetic overflows.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod compose;
mod cosine;
mod cycle;
mod decay;
mod kind;
mod piecewise;
mod plateau;
mod range_test;
mod warmup;

use std::fmt;

pub use compose::{Chained, Lambda, Sequential};
pub use cosine::{Cosine, CosineWarmRestarts, WarmupCosine};
pub use cycle::{AnnealStrategy, Cyclic, CyclicMode, OneCycle};
pub use decay::{Constant, Exponential, InverseSqrt, Linear, MultiStep, Noam, Polynomial, Step};
pub use piecewise::{InterpolateType, PiecewiseConstant, PiecewiseInterpolate};
pub use plateau::{PlateauMode, ReduceLROnPlateau, ThresholdMode};
pub use range_test::{LrCurve, LrPoint, LrSuggestions, RangeTest, StepMode};
pub use warmup::{DecayType, Warmup, WarmupStableDecay, WarmupType};

use crate::Error;
use kind::{Kind, Named};

/// Defines [`Schedule`] with one variant per kind.
macro_rules! schedules {
    ($($Kind:ident = $name:literal $($only_written:ident)?),* $(,)?) => {
        /// The learning rate as a pure function of the step, in f64 on the host.
        ///
        /// The step is the number of earlier calls of `step`, skipped steps included, as in PyTorch and optax. Each
        /// kind is a struct that converts into a schedule with `into()`. Its fields have PyTorch's names where PyTorch
        /// has the schedule. In configuration files: `{"name": "step", "lr": 0.1, "step_size": 30}`; fields with a
        /// default are optional, and floats that JSON lacks are `"inf"`, `"-inf"` and `"nan"`. Printed: `step(lr=0.1, step_size=30, gamma=0.1)`.
        ///
        /// ```
        /// use wgpu_optim::Schedule;
        /// use wgpu_optim::schedule::{Cosine, OneCycle};
        /// let schedule = Schedule::from(OneCycle::new(0.1, 1_000).with_pct_start(0.25));
        /// assert_eq!(schedule.lr(249)?, 0.1);
        /// assert!(schedule.lr(1_001).is_err());
        /// assert_eq!(Schedule::from(Cosine::new(0.5, 100)).with_warmup(10).lr(5)?, 0.25);
        /// # Ok::<(), wgpu_optim::Error>(())
        /// ```
        #[derive(Clone, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(tag = "name"))]
        #[non_exhaustive]
        pub enum Schedule {
            $(
                #[doc = concat!("[`", stringify!($Kind), "`].")]
                #[cfg_attr(feature = "serde", serde(rename = $name $(, $only_written)?))]
                $Kind($Kind),
            )*
        }

        $(
            impl From<$Kind> for Schedule {
                fn from(kind: $Kind) -> Self {
                    Self::$Kind(kind)
                }
            }
        )*

        impl Schedule {
            /// The names of all kinds in configuration files. `lambda` cannot be read or written.
            pub const NAMES: &[&str] = &[$($Kind::NAME),*];

            /// The learning rate of a schedule that was validated.
            pub(crate) fn value(&self, step: u64) -> Result<f64, Error> {
                match self {
                    $(Self::$Kind(kind) => {
                        let lr = kind.lr(step)?;
                        $Kind::check_rate("lr", lr)?;
                        Ok(lr)
                    })*
                }
            }

            /// The momentum of a schedule that was validated.
            pub(crate) fn momentum_value(&self, step: u64) -> Result<Option<f64>, Error> {
                match self {
                    $(Self::$Kind(kind) => {
                        let momentum = kind.momentum(step)?;
                        momentum.map_or(Ok(()), |momentum| $Kind::check_momentum("momentum", momentum))?;
                        Ok(momentum)
                    })*
                }
            }

            pub(crate) fn validate(&self) -> Result<(), Error> {
                match self {
                    $(Self::$Kind(kind) => kind.validate(),)*
                }
            }
        }

        impl fmt::Display for Schedule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$Kind(kind) => fmt::Display::fmt(kind, f),)*
                }
            }
        }
    };
}

schedules! {
    Constant = "constant",
    Step = "step",
    MultiStep = "multi_step",
    Exponential = "exponential",
    Linear = "linear",
    Polynomial = "polynomial",
    InverseSqrt = "inverse_sqrt",
    Noam = "noam",
    Cosine = "cosine",
    CosineWarmRestarts = "cosine_warm_restarts",
    WarmupCosine = "warmup_cosine",
    OneCycle = "one_cycle",
    Cyclic = "cyclic",
    Warmup = "warmup",
    WarmupStableDecay = "warmup_stable_decay",
    PiecewiseConstant = "piecewise_constant",
    PiecewiseInterpolate = "piecewise_interpolate",
    Sequential = "sequential",
    Chained = "chained",
    Lambda = "lambda" skip_deserializing,
}

#[cfg(feature = "serde")]
crate::number::as_is!(Schedule, Box<Schedule>);

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Schedule {
    /// The same learning rate at every step.
    pub fn constant(lr: f64) -> Self {
        Constant::new(lr).into()
    }

    /// [`WarmupCosine`], the usual schedule for language models.
    pub fn warmup_cosine(peak_lr: f64, warmup_steps: u64, total_steps: u64) -> Self {
        WarmupCosine::new(peak_lr, warmup_steps, total_steps).into()
    }

    /// [`Lambda`]: `lr * lr_lambda(step)`.
    pub fn lambda(lr: f64, lr_lambda: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Lambda::new(lr, lr_lambda).into()
    }

    /// Sets the field `min_lr` or `eta_min` (PyTorch) of the schedule, or of the schedule inside a [`Warmup`]. Does
    /// nothing for kinds without such a field.
    #[must_use]
    pub fn with_min_lr(mut self, lr: f64) -> Self {
        match &mut self {
            Self::Polynomial(Polynomial { min_lr, .. })
            | Self::WarmupCosine(WarmupCosine { min_lr, .. })
            | Self::WarmupStableDecay(WarmupStableDecay { min_lr, .. })
            | Self::Cosine(Cosine { eta_min: min_lr, .. })
            | Self::CosineWarmRestarts(CosineWarmRestarts { eta_min: min_lr, .. }) => *min_lr = lr,
            Self::Warmup(Warmup { schedule, .. }) => **schedule = schedule.as_ref().clone().with_min_lr(lr),
            _ => {}
        }
        self
    }

    /// Prepends a linear warm-up from 0 over `warmup_steps` steps. [`Warmup`] has more options.
    #[must_use]
    pub fn with_warmup(self, warmup_steps: u64) -> Self {
        Warmup::new(Box::new(self), warmup_steps).into()
    }

    /// The learning rate at a step, from 0.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for a field out of range, or for a learning rate that is negative or not finite in
    /// f32; [`Error::ScheduleEnded`] after the last step of a schedule that ends.
    pub fn lr(&self, step: u64) -> Result<f64, Error> {
        self.validate()?;
        self.value(step)
    }

    /// The momentum at a step, if the schedule cycles it. It replaces the rule's `momentum`, or the first of its
    /// `betas`. In a [`Sequential`] schedule, a part without momentum keeps the last momentum of an earlier part, or
    /// else uses the first momentum of a later part.
    ///
    /// # Errors
    /// As for [`Schedule::lr`].
    pub fn momentum(&self, step: u64) -> Result<Option<f64>, Error> {
        self.validate()?;
        self.momentum_value(step)
    }
}
