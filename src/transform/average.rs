//! Averages of the parameters: exponential moving averages (EMA) and equally weighted ones (SWA).

use crate::Error;
use crate::error::check;
use crate::rule::{StateSpec, lerp};

/// An exponential moving average of the parameters, updated in the same dispatch as each step:
/// `average = decay * average + (1 - decay) * param`. The state `average` takes 4 bytes per parameter.
///
/// After the first step the average equals the parameters, as with PyTorch's `AveragedModel`. A skipped step leaves it
/// unchanged. `eval` puts the average into the parameters, `train` restores them bit for bit.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Ema {
    /// 0 to below 1, in f32.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub decay: f64,
    /// Whether the decay of step t is at most `(1 + t) / (10 + t)`. Default false.
    #[cfg_attr(feature = "serde", serde(default))]
    pub warmup: bool,
    /// Whether the average begins at 0, and `eval` divides it by the sum of all weights, as optax's `ema` with
    /// `debias`. Default false.
    #[cfg_attr(feature = "serde", serde(default))]
    pub debiased: bool,
}

impl Ema {
    /// An average with a constant decay.
    pub fn new(decay: f64) -> Self {
        Self { decay, warmup: false, debiased: false }
    }

    /// Sets [`Ema::warmup`].
    #[must_use]
    pub fn with_warmup(mut self) -> Self {
        self.warmup = true;
        self
    }

    /// Sets [`Ema::debiased`].
    #[must_use]
    pub fn debiased(mut self) -> Self {
        self.debiased = true;
        self
    }
}

/// Stochastic weight averaging (SWA, [arXiv 1803.05407](https://arxiv.org/abs/1803.05407)): the equally weighted average of
/// the parameters after step `start`, and after every `every` steps from there. The state `average` takes 4 bytes per
/// parameter.
///
/// Before `start` the average equals the parameters. `eval` puts the average into the parameters, `train` restores them
/// bit for bit.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Swa {
    /// Number of the first applied step that counts, from 1.
    pub start: u32,
    /// Steps from one that counts to the next, 1 or more.
    pub every: u32,
}

impl Swa {
    /// Averages from step `start` on, every `every` steps.
    pub fn new(start: u32, every: u32) -> Self {
        Self { start, every }
    }
}

/// An average of the parameters: see [`OptimizerBuilder::average`](crate::OptimizerBuilder::average).
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "name", rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Average {
    /// [`Ema`].
    Ema(Ema),
    /// [`Swa`].
    Swa(Swa),
}

impl From<Ema> for Average {
    fn from(ema: Ema) -> Self {
        Self::Ema(ema)
    }
}

impl From<Swa> for Average {
    fn from(swa: Swa) -> Self {
        Self::Swa(swa)
    }
}

impl Average {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        match self {
            Self::Ema(Ema { decay, warmup, debiased }) => {
                crate::rule::check_beta("ema", "decay", *decay)?;
                if *warmup && *debiased {
                    return Err(Error::Unsupported {
                        what: "a debiased average".to_owned(),
                        with: "a warm-up of its decay".to_owned(),
                        remedy: "leave one of them out: the warm-up begins at the parameters, without a bias",
                    });
                }
                Ok(())
            }
            Self::Swa(Swa { start, every }) => {
                check(*start > 0, "swa", "start", (*start).into(), "1 or more")?;
                check(*every > 0, "swa", "every", (*every).into(), "1 or more")
            }
        }
    }

    pub(crate) fn state() -> StateSpec {
        StateSpec::new("average").as_param()
    }

    fn decay(&self) -> f64 {
        match self {
            Self::Ema(ema) => ema.decay,
            Self::Swa(_) => 0.0,
        }
    }

    pub(crate) fn is_debiased(&self) -> bool {
        matches!(self, Self::Ema(Ema { debiased: true, .. }))
    }

    /// The decay, if `eval` divides by the sum of the weights.
    pub(crate) fn bias_corrected(&self) -> Option<f64> {
        self.is_debiased().then_some(self.decay())
    }

    fn start_and_every(&self) -> [u32; 2] {
        match self {
            Self::Ema(_) => [1; 2],
            Self::Swa(swa) => [swa.start, swa.every],
        }
    }

    /// Further fields of `Hyper`.
    pub(crate) fn hyperparameters(&self) -> [(&'static str, f32); 2] {
        let decay = self.decay();
        [("average_decay", decay as f32), ("average_share", (1.0 - decay) as f32)]
    }

    /// Values of override constants.
    pub(crate) fn constants(&self) -> [(&'static str, f64); 5] {
        let flag = |flag: bool| f64::from(u8::from(flag));
        let [start, every] = self.start_and_every();
        [
            ("average_is_equal", flag(matches!(self, Self::Swa(_)))),
            ("average_warms_up", flag(matches!(self, Self::Ema(Ema { warmup: true, .. })))),
            ("average_is_debiased", flag(self.is_debiased())),
            ("average_start", start.into()),
            ("average_every", every.into()),
        ]
    }

    /// Weight of the parameters after step t, and 1 minus it.
    fn average_weight(&self, t: u32) -> [f32; 2] {
        if let Self::Swa(Swa { start, every }) = self {
            let share = 1.0 / ((t - start) / every + 1) as f32;
            return [share, 1.0 - share];
        }
        let [(_, decay), (_, share)] = self.hyperparameters();
        if let Self::Ema(Ema { warmup: true, .. }) = self {
            let warm = t as f32;
            let warm_share = 9.0 / (10.0 + warm);
            if warm_share > share {
                return [warm_share, (1.0 + warm) / (10.0 + warm)];
            }
        }
        [share, decay]
    }

    pub(crate) fn update_average(&self, average: &mut [f32], param: &[f32], t: u32) {
        let [start, every] = self.start_and_every();
        let has_begun = t > start || self.is_debiased();
        if !has_begun {
            average.copy_from_slice(param);
            return;
        }
        if !t.wrapping_sub(start).is_multiple_of(every) {
            return;
        }
        let [share, rest] = self.average_weight(t);
        for (average, &param) in average.iter_mut().zip(param) {
            *average = lerp(*average, param, rest, share);
        }
    }

    /// Puts the parameters to evaluate into `param`.
    pub(crate) fn averaged(&self, average: &[f32], param: &mut [f32], bias_correction: f32, t: u32) {
        // Before the first step there is no average.
        if t == 0 {
            return;
        }
        if self.is_debiased() {
            for (param, average) in param.iter_mut().zip(average) {
                *param = average / bias_correction;
            }
        } else {
            param.copy_from_slice(average);
        }
    }
}
