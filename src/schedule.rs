//! Learning rates over time: [`Schedule`], its kinds, and [`ReduceLROnPlateau`]; and [`RangeTest`], to find one.

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

/// The enum has a variant per kind.
macro_rules! schedules {
    ($($Kind:ident = $name:literal $($only_written:ident)?),* $(,)?) => {
        /// The learning rate as a pure function of the step, in f64 on the host.
        ///
        /// Steps count calls of `step` from 0, also those that skip, as PyTorch's schedulers and optax count. Each kind is a
        /// struct that becomes a schedule by `into()`; where PyTorch has it, its fields are PyTorch's keywords. In
        /// configuration files it is `{"name": "step", "lr": 0.1, "step_size": 30}` with those of its fields that have no
        /// default. Printed, it is `step(lr=0.1, step_size=30, gamma=0.1)`.
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
            /// The names of all kinds; no file can hold a `lambda`.
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

    /// [`Lambda`]: `lr` times what a function says of the step.
    pub fn lambda(lr: f64, lr_lambda: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Lambda::new(lr, lr_lambda).into()
    }

    /// The learning rate that a schedule with one end falls to instead of 0: `min_lr`, or PyTorch's `eta_min`, also behind a
    /// warm-up. Others have no such field and stay as they are.
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

    /// This schedule behind a linear rise from 0 over `warmup_steps` steps; [`Warmup`] has other ways.
    #[must_use]
    pub fn with_warmup(self, warmup_steps: u64) -> Self {
        Warmup::new(Box::new(self), warmup_steps).into()
    }

    /// The learning rate at a step, counted from 0.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for a field out of range, or a result that is no learning rate (negative, or not finite in
    /// f32); [`Error::ScheduleEnded`] for a step behind the last of a schedule that ends.
    pub fn lr(&self, step: u64) -> Result<f64, Error> {
        self.validate()?;
        self.value(step)
    }

    /// The momentum at a step, if the schedule cycles it: what takes the place of the rule's `momentum`, or of the first of
    /// its `betas`. Among schedules in sequence that of the last one to have cycled it, or else of the first that will.
    ///
    /// # Errors
    /// Those of [`Schedule::lr`].
    pub fn momentum(&self, step: u64) -> Result<Option<f64>, Error> {
        self.validate()?;
        self.momentum_value(step)
    }
}
