//! The network: its layers, where their parameters lie in the flat space, and their first values.

use std::ops::Range;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_optim::{Error, Layout, TENSOR_ALIGNMENT};

/// The group of the biases, which weight decay leaves alone.
pub const NO_DECAY: &str = "no_decay";

/// y = x · Wᵀ + b; in all layers but the last, negative results become 0.
#[derive(Debug, Clone)]
pub struct Linear {
    pub inputs: usize,
    pub outputs: usize,
    /// Elements of W `[outputs, inputs]` in the flat space.
    pub weight: Range<usize>,
    /// Elements of b `[outputs]` in the flat space.
    pub bias: Range<usize>,
    pub relu: bool,
}

#[derive(Debug)]
pub struct Model {
    pub layers: Vec<Linear>,
    pub layout: Layout,
}

impl Model {
    /// `sizes`: pixels, hidden layers, classes.
    pub fn new(sizes: &[usize]) -> Result<Self, Error> {
        Self::aligned(sizes, TENSOR_ALIGNMENT)
    }

    /// A network whose tensors begin at multiples of `alignment` elements. Its first values do not depend on it.
    pub fn aligned(sizes: &[usize], alignment: usize) -> Result<Self, Error> {
        let mut builder = Layout::builder().aligned(alignment);
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
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.weight.len() + layer.bias.len()).sum()
    }

    /// Weights and biases uniform within ±1/√inputs, as PyTorch's `nn.Linear` starts; zero in the padding.
    pub fn initial_parameters(&self, seed: u64) -> Vec<f32> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_start_within_their_bounds_and_padding_at_zero() {
        let model = Model::new(&[16, 3, 10]).expect("valid");
        let parameters = model.initial_parameters(1);
        assert_eq!(parameters.len(), model.layout.len());
        let mut inside = vec![false; parameters.len()];
        for layer in &model.layers {
            let bound = 1.0 / (layer.inputs as f32).sqrt();
            for element in layer.weight.clone().chain(layer.bias.clone()) {
                inside[element] = true;
                assert!(parameters[element] != 0.0 && parameters[element].abs() <= bound);
            }
        }
        let padding = parameters.iter().zip(&inside).filter(|(_, inside)| !**inside);
        assert!(padding.into_iter().all(|(value, _)| *value == 0.0));
        assert_eq!(inside.iter().filter(|inside| **inside).count(), model.parameters());
        assert_ne!(parameters, model.initial_parameters(2));
    }

    #[test]
    fn the_alignment_moves_parameters_and_changes_none() {
        let values = |alignment| {
            let model = Model::aligned(&[16, 3, 10], alignment).expect("valid");
            let parameters = model.initial_parameters(1);
            let layers = model.layers.iter().flat_map(|layer| [layer.weight.clone(), layer.bias.clone()]);
            let tensors: Vec<_> = layers.collect();
            assert!(tensors.iter().all(|range| range.start % alignment == 0), "{tensors:?}");
            tensors.into_iter().map(|range| parameters[range].to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(values(64), values(256));
    }

    #[test]
    fn only_hidden_layers_have_a_relu_and_only_biases_escape_weight_decay() {
        let model = Model::new(&[4, 3, 2, 10]).expect("valid");
        assert_eq!(model.layers.iter().map(|layer| layer.relu).collect::<Vec<_>>(), [true, true, false]);
        for tensor in model.layout.tensors() {
            assert_eq!(tensor.group(), (tensor.shape().len() == 1).then_some(NO_DECAY), "{}", tensor.name());
        }
    }
}
