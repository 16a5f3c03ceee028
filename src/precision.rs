//! Storage formats of gradients, parameters and states.

use std::fmt;

use crate::Error;
use crate::params::{ParamFormat, Rounding};
use crate::storage::{Dtype, Moment};

/// Storage formats of gradients, parameters and states. Arithmetic is f32 in all of them. Default: f32 everywhere.
///
/// Kernels widen and narrow by integer operations, without `shader-f16`. 16-bit numbers lie two to a 32-bit word.
///
/// ```
/// use wgpu_optim::{AdamW, Layout, Optimizer, Precision, half::bf16};
/// let builder = Optimizer::builder(AdamW::default().with_lr(0.5)).precision(Precision::bf16_split());
/// let mut optimizer = builder.build_cpu(&Layout::flat(2)?)?;
/// let mut params = [bf16::from_f32(1.0); 2];
/// optimizer.step(&mut params, &[bf16::from_f32(-1.0); 2])?;
/// assert!(params[0].to_f32() > 1.4);
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Precision {
    /// Format of the gradients: f32, bf16 or f16.
    pub grads: Dtype,
    /// Format of the parameters.
    pub params: ParamFormat,
    /// Format of the states that the rule declares as moments ([`StateSpec::moment`](crate::rule::StateSpec::moment)): f32, bf16,
    /// [`Dtype::Dynamic8`] or [`Dtype::Companded8`].
    pub moments: Dtype,
    /// Formats of states by their names; the later of two counts. Other states are f32, but for [`Precision::moments`]. States
    /// that are no moments are f32 or bf16.
    ///
    /// Slow averages in bf16 need [`Rounding::Stochastic`]: with a beta of 0.999 a step changes `exp_avg_sq` by less than half
    /// a unit, and to the nearest it never falls.
    pub states: Vec<(String, Dtype)>,
    /// Rounding of bf16 parameters without a master, of bf16 states, and of 8-bit codes.
    pub rounding: Rounding,
    /// Tensors with fewer elements keep their moments in f32 where others have 8 bits. Default 4096, as in bitsandbytes.
    pub min_8bit_len: u64,
}

impl Default for Precision {
    fn default() -> Self {
        Self {
            grads: Dtype::F32,
            params: ParamFormat::F32,
            moments: Dtype::F32,
            states: Vec::new(),
            rounding: Rounding::Nearest,
            min_8bit_len: 4096,
        }
    }
}

impl Precision {
    /// bf16 gradients and parameters with an f32 master, as apex's `O2` with bf16.
    pub fn bf16_master() -> Self {
        Self { grads: Dtype::Bf16, params: ParamFormat::Bf16Master, ..Self::default() }
    }

    /// f16 gradients and parameters with an f32 master. Gradients need a [`GradScaler`](crate::GradScaler).
    pub fn f16_master() -> Self {
        Self { grads: Dtype::F16, params: ParamFormat::F16Master, ..Self::default() }
    }

    /// bf16 gradients and parameters, and the rest of an f32 in two more bytes: the bits of training in f32.
    pub fn bf16_split() -> Self {
        Self { grads: Dtype::Bf16, params: ParamFormat::Bf16Split, ..Self::default() }
    }

    /// bf16 gradients and parameters without a master. Each step rounds at random.
    pub fn bf16_stochastic(seed: u32) -> Self {
        let rounding = Rounding::Stochastic { seed };
        Self { grads: Dtype::Bf16, params: ParamFormat::Bf16, rounding, ..Self::default() }
    }

    /// [`Precision::bf16_split`] with moments in [`Dtype::Dynamic8`]: 8 bytes per parameter with AdamW, gradients included.
    pub fn bf16_8bit() -> Self {
        Self::bf16_split().with_moments(Dtype::Dynamic8)
    }

    /// [`Precision::bf16_stochastic`] with moments in [`Dtype::Dynamic8`]: 6 bytes per parameter with AdamW, gradients
    /// included.
    pub fn bf16_stochastic_8bit(seed: u32) -> Self {
        Self::bf16_stochastic(seed).with_moments(Dtype::Dynamic8)
    }

    /// Sets [`Precision::grads`].
    #[must_use]
    pub fn with_grads(mut self, dtype: Dtype) -> Self {
        self.grads = dtype;
        self
    }

    /// Sets [`Precision::params`].
    #[must_use]
    pub fn with_params(mut self, format: ParamFormat) -> Self {
        self.params = format;
        self
    }

    /// Sets [`Precision::moments`].
    #[must_use]
    pub fn with_moments(mut self, dtype: Dtype) -> Self {
        self.moments = dtype;
        self
    }

    /// Sets the format of one state, by the rule's name for it: `exp_avg`, … .
    #[must_use]
    pub fn with_state(mut self, name: impl Into<String>, dtype: Dtype) -> Self {
        self.states.push((name.into(), dtype));
        self
    }

    /// Sets [`Precision::rounding`].
    #[must_use]
    pub fn with_rounding(mut self, rounding: Rounding) -> Self {
        self.rounding = rounding;
        self
    }

    /// Sets [`Precision::min_8bit_len`].
    #[must_use]
    pub fn with_min_8bit_len(mut self, len: u64) -> Self {
        self.min_8bit_len = len;
        self
    }

    /// The format of a state.
    pub(crate) fn state(&self, name: &str, moment: Option<Moment>) -> Dtype {
        let named = self.states.iter().rfind(|(known, _)| known == name).map(|(_, dtype)| *dtype);
        named.unwrap_or(if moment.is_some() { self.moments } else { Dtype::F32 })
    }

    /// Whether all streams but the gradients are f32.
    pub(crate) fn is_f32(&self) -> bool {
        let states = self.states.iter().all(|(name, _)| self.state(name, None) == Dtype::F32);
        self.params == ParamFormat::F32 && self.moments == Dtype::F32 && states
    }

    /// # Errors
    /// [`Error::Unsupported`] for a format that gradients or states cannot have, [`Error::UnknownState`].
    pub(crate) fn validate(&self, rule: &str, states: &[(&str, Option<Moment>)]) -> Result<(), Error> {
        let unsupported = |dtype: Dtype, with: String, remedy| {
            Err(Error::Unsupported { what: format!("the format {dtype:?}"), with, remedy })
        };
        if ![Dtype::F32, Dtype::Bf16, Dtype::F16].contains(&self.grads) {
            return unsupported(self.grads, "gradients".to_owned(), "use F32, Bf16 or F16");
        }
        let (plain, coded) = ([Dtype::F32, Dtype::Bf16], [Dtype::Dynamic8, Dtype::Companded8]);
        let of_moments = "use F32, Bf16, Dynamic8 or Companded8";
        if !plain.contains(&self.moments) && !coded.contains(&self.moments) {
            return unsupported(self.moments, "moments".to_owned(), of_moments);
        }
        for (name, dtype) in &self.states {
            let Some((_, moment)) = states.iter().find(|(state, _)| state == name) else {
                let known = states.iter().map(|(state, _)| (*state).to_owned()).collect();
                return Err(Error::UnknownState { rule: rule.to_owned(), name: name.clone(), known });
            };
            if plain.contains(dtype) || moment.is_some() && coded.contains(dtype) {
                continue;
            }
            let with = format!("the state {name:?} of rule {rule:?}");
            return match moment {
                Some(_) => unsupported(*dtype, with, of_moments),
                None => unsupported(*dtype, with, "use F32 or Bf16: the rule does not declare the state as a moment"),
            };
        }
        Ok(())
    }
}

/// The storage format of each stream of an optimizer: parameters, gradients, states. Displayed as a list with the bytes per
/// parameter.
///
/// ```
/// use wgpu_optim::{AdamW, Layout, Optimizer, Precision};
/// let builder = Optimizer::builder(AdamW::default()).precision(Precision::bf16_split());
/// let formats = builder.formats(&Layout::flat(1_000)?)?;
/// let text = "param Bf16, grad Bf16, exp_avg F32, exp_avg_sq F32, param_low I16: 14 bytes per parameter";
/// assert_eq!(formats.to_string(), text);
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Formats {
    /// `param`, `grad`, the name of a state or `accumulated`, and the format.
    pub streams: Vec<(String, Dtype)>,
}

impl Formats {
    /// Bytes of parameter, gradient and states of one element, and its share of scales. Tensors below
    /// [`Precision::min_8bit_len`] take more.
    pub fn bytes_per_parameter(&self) -> f64 {
        self.streams.iter().map(|(_, dtype)| dtype.bytes_per_number()).sum()
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams: Vec<_> = self.streams.iter().map(|(name, dtype)| format!("{name} {dtype:?}")).collect();
        write!(f, "{}: {} bytes per parameter", streams.join(", "), rounded(self.bytes_per_parameter()))
    }
}

/// A number of bytes with at most two decimals.
pub(crate) fn rounded(bytes: f64) -> f64 {
    (bytes * 100.0).round() / 100.0
}
