//! Storage formats by name.

use burn::module::{ModuleMapper, Param};
use burn::prelude::*;
use burn::tensor::{DType, FloatDType};
use wgpu_optim::{Dtype, OptimizerBuilder, ParamFormat, Precision, Rounding};

use crate::model::Gpt;

/// A name, and its formats given a seed of stochastic rounding.
type Named = (&'static str, fn(u32) -> Precision);

const NAMED: &[Named] = &[
    ("f32", |_| Precision::default()),
    ("bf16-states", |seed| Precision::default().with_moments(Dtype::Bf16).with_rounding(Rounding::Stochastic { seed })),
    ("8bit-states", |_| Precision::default().with_moments(Dtype::Dynamic8)),
    ("bf16", |_| Precision::bf16_master()),
    ("split", |_| Precision::bf16_split()),
    ("split-8bit", |_| Precision::bf16_8bit()),
    ("bf16-sr", Precision::bf16_stochastic),
    ("bf16-sr-8bit", Precision::bf16_stochastic_8bit),
];

/// Names of all formats.
pub(crate) fn names() -> Vec<&'static str> {
    NAMED.iter().map(|(name, _)| *name).collect()
}

/// Formats of parameters, gradients and states.
#[derive(Debug, Clone)]
pub(crate) struct Format {
    name: String,
    precision: Precision,
}

/// The device lacks the network's format.
#[derive(Debug, thiserror::Error)]
#[error(
    "--precision {name}: burn does not compute in {dtype:?} on this device ({device}); give f32, bf16-states or \
     8bit-states, whose network is f32"
)]
pub(crate) struct UnsupportedError {
    name: String,
    dtype: DType,
    device: String,
}

impl Format {
    /// The formats of a name in [`names`].
    pub(crate) fn new(name: &str, seed: u64) -> Option<Self> {
        let (_, precision) = NAMED.iter().find(|(known, _)| *known == name)?;
        Some(Self { name: name.to_owned(), precision: precision(seed as u32) })
    }

    pub(crate) fn builder(&self, builder: OptimizerBuilder) -> OptimizerBuilder {
        builder.precision(self.precision.clone())
    }

    /// The network in the format of the parameters. burn computes in it, too.
    pub(crate) fn cast(&self, model: Gpt, device: &Device, adapter: &str) -> Result<Gpt, UnsupportedError> {
        if self.precision.params == ParamFormat::F32 {
            return Ok(model);
        }
        if !device.supports_dtype(DType::BF16) {
            let (name, device) = (self.name.clone(), adapter.to_owned());
            return Err(UnsupportedError { name, dtype: DType::BF16, device });
        }
        Ok(model.map(&mut Cast))
    }
}

struct Cast;

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.inner().cast(FloatDType::BF16).autodiff().require_grad())
    }
}
