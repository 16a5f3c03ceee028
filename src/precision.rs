//! Storage formats of gradients, parameters and states.

use std::fmt;

use crate::Error;
use crate::params::{ParamFormat, Rounding};
use crate::storage::Dtype;

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Precision {
    /// Format of the gradients: f32, bf16 or f16.
    pub grads: Dtype,
    /// Format of the parameters.
    pub params: ParamFormat,
    /// Formats of states by their names, f32 or bf16; the later of two counts. States without one are f32.
    ///
    /// Slow averages in bf16 need [`Rounding::Stochastic`]: with a beta of 0.999 a step changes `exp_avg_sq` by less than half
    /// a unit, and to the nearest it never falls.
    pub states: Vec<(String, Dtype)>,
    /// Rounding of parameters and states that are bf16 alone.
    pub rounding: Rounding,
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

    /// The format of a state.
    pub(crate) fn state(&self, name: &str) -> Dtype {
        self.states.iter().rfind(|(known, _)| known == name).map_or(Dtype::F32, |(_, dtype)| *dtype)
    }

    /// Whether all streams but the gradients are f32.
    pub(crate) fn is_f32(&self) -> bool {
        self.params == ParamFormat::F32 && self.states.iter().all(|(name, _)| self.state(name) == Dtype::F32)
    }

    /// # Errors
    /// [`Error::Unsupported`] for a format that gradients or states cannot have, [`Error::UnknownState`].
    pub(crate) fn validate(&self, rule: &str, states: &[&str]) -> Result<(), Error> {
        let unsupported =
            |what: String, with: &str, remedy| Err(Error::Unsupported { what, with: with.to_owned(), remedy });
        if self.grads == Dtype::I16 {
            return unsupported("the format I16".to_owned(), "gradients", "use F32, Bf16 or F16");
        }
        for (name, dtype) in &self.states {
            if !states.contains(&name.as_str()) {
                let known = states.iter().map(|&state| state.to_owned()).collect();
                return Err(Error::UnknownState { rule: rule.to_owned(), name: name.clone(), known });
            }
            if ![Dtype::F32, Dtype::Bf16].contains(dtype) {
                return unsupported(format!("the format {dtype:?}"), "states", "use F32 or Bf16");
            }
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
    /// Bytes of parameter, gradient and states of one element.
    pub fn bytes_per_parameter(&self) -> u64 {
        self.streams.iter().map(|(_, dtype)| dtype.bytes(1)).sum()
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams: Vec<_> = self.streams.iter().map(|(name, dtype)| format!("{name} {dtype:?}")).collect();
        write!(f, "{}: {} bytes per parameter", streams.join(", "), self.bytes_per_parameter())
    }
}
