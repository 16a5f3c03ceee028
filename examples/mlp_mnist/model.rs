//! The network: its layers, where their parameters lie in the flat space, and their first values.

use std::ops::Range;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_optim::{Error, Layout};

/// The group of the biases, which weight decay leaves alone.
pub(crate) const NO_DECAY: &str = "no_decay";

/// y = x · Wᵀ + b; in all layers but the last, negative results become 0.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Elements of W `[outputs, inputs]` in the flat space.
    pub(crate) weight: Range<usize>,
    /// Elements of b `[outputs]` in the flat space.
    pub(crate) bias: Range<usize>,
    pub(crate) relu: bool,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) layers: Vec<Linear>,
    pub(crate) layout: Layout,
}

impl Model {
    /// `sizes`: pixels, hidden layers, classes.
    pub(crate) fn new(sizes: &[usize]) -> Result<Self, Error> {
        let mut builder = Layout::builder();
        for (index, pair) in sizes.windows(2).enumerate() {
            let number = index + 1;
            builder = builder
                .tensor(format!("fc{number}.weight"), &[pair[1], pair[0]])
                .tensor(format!("fc{number}.bias"), &[pair[1]])
                .group(NO_DECAY);
        }
        let layout = builder.build()?;
        let layers = sizes
            .windows(2)
            .zip(layout.tensors().chunks_exact(2))
            .enumerate()
            .map(|(index, (pair, tensors))| Linear {
                inputs: pair[0],
                outputs: pair[1],
                weight: tensors[0].range(),
                bias: tensors[1].range(),
                relu: index + 2 < sizes.len(),
            })
            .collect();
        Ok(Self { layers, layout })
    }

    /// Number of parameters, without the padding between tensors.
    pub(crate) fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.weight.len() + layer.bias.len()).sum()
    }

    /// Weights and biases uniform within ±1/√inputs, as PyTorch's `nn.Linear` starts; zero in the padding.
    pub(crate) fn initial_parameters(&self, seed: u64) -> Vec<f32> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut parameters = vec![0.0; self.layout.len()];
        for layer in &self.layers {
            let bound = 1.0 / (layer.inputs as f32).sqrt();
            for range in [&layer.weight, &layer.bias] {
                parameters[range.clone()].fill_with(|| rng.random_range(-bound..=bound));
            }
        }
        parameters
    }
}
