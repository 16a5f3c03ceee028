//! Storage formats by name.

use wgpu_optim::{Dtype, GradScaler, OptimizerBuilder, Precision, TENSOR_ALIGNMENT};

/// A name, and its formats given a seed of stochastic rounding.
type Named = (&'static str, fn(u32) -> Precision);

const NAMED: &[Named] = &[
    ("f32", |_| Precision::default()),
    ("bf16", |_| Precision::bf16_master()),
    ("f16", |_| Precision::f16_master()),
    ("split", |_| Precision::bf16_split()),
    ("split-8bit", |_| Precision::bf16_8bit()),
    ("bf16-sr", Precision::bf16_stochastic),
    ("bf16-sr-8bit", Precision::bf16_stochastic_8bit),
];

/// Formats of parameters, gradients and states, with the loss scale that they need.
#[derive(Debug, Clone, Default)]
pub struct Format {
    pub precision: Precision,
    /// With f16 gradients.
    pub scaler: Option<GradScaler>,
}

impl Format {
    /// The formats of a name in [`names`]. An f16 gradient below 6e-8 is 0, one above 65,504 infinite: the loss is scaled.
    pub fn new(name: &str, seed: u64, init_scale: Option<f64>) -> Option<Self> {
        let (_, formats) = NAMED.iter().find(|(known, _)| *known == name)?;
        let precision = formats(seed as u32);
        let scaler = GradScaler::default();
        let scaler = init_scale.map_or(scaler, |scale| scaler.with_init_scale(scale));
        Some(Self { scaler: (precision.grads == Dtype::F16).then_some(scaler), precision })
    }

    /// Alignment of the tensors, in elements: 256 share a scale of 8-bit moments.
    pub fn alignment(&self) -> usize {
        if self.precision.moments == Dtype::Dynamic8 { 256 } else { TENSOR_ALIGNMENT }
    }

    /// The optimizer with these formats.
    pub fn builder(&self, builder: OptimizerBuilder) -> OptimizerBuilder {
        let builder = builder.precision(self.precision.clone());
        if let Some(scaler) = self.scaler { builder.grad_scaler(scaler) } else { builder }
    }
}

/// Names of all formats.
pub fn names() -> Vec<&'static str> {
    NAMED.iter().map(|(name, _)| *name).collect()
}
