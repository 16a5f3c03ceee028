//! Windows of the text for each step: a function of the seed and the step alone, so that a run that is resumed goes on
//! where it was.

use burn::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Windows of a text, each of `context` tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batches {
    pub(crate) size: usize,
    pub(crate) context: usize,
    pub(crate) seed: u64,
}

/// Tokens, and for each the token after it: `size` rows of `context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    inputs: Vec<i32>,
    targets: Vec<i32>,
    shape: [usize; 2],
}

impl Batches {
    /// The batch of an index: windows from random places.
    pub(crate) fn random(&self, text: &[i32], index: u64) -> Batch {
        let mut rng = StdRng::seed_from_u64(mix(self.seed, index));
        let starts = (0..self.size).map(|_| rng.random_range(0..text.len() - self.context));
        self.windows(text, starts)
    }

    /// Batches that together cover the text evenly; on a short text, windows come more than once.
    pub(crate) fn spread(&self, text: &[i32], count: usize) -> Vec<Batch> {
        let places = text.len() - self.context;
        let windows = count * self.size;
        let starts: Vec<usize> = (0..windows).map(|window| window * places / windows).collect();
        starts.chunks_exact(self.size).map(|starts| self.windows(text, starts.iter().copied())).collect()
    }

    fn windows(&self, text: &[i32], starts: impl Iterator<Item = usize>) -> Batch {
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for start in starts {
            inputs.extend_from_slice(&text[start..start + self.context]);
            targets.extend_from_slice(&text[start + 1..=start + self.context]);
        }
        Batch { inputs, targets, shape: [self.size, self.context] }
    }
}

impl Batch {
    /// Inputs and targets on a device.
    pub(crate) fn on(self, device: &Device) -> [Tensor<2, Int>; 2] {
        [self.inputs, self.targets].map(|tokens| Tensor::from_data(TensorData::new(tokens, self.shape), device))
    }
}

/// A seed of its own for each index.
pub(crate) fn mix(seed: u64, index: u64) -> u64 {
    // The finalizer of SplitMix64.
    let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_that_of_its_seed_and_index() {
        let text: Vec<i32> = (0..1_000).collect();
        let batches = |seed| Batches { size: 4, context: 16, seed };
        let batch = batches(1).random(&text, 7);
        assert_eq!(batch, batches(1).random(&text, 7), "the same after any other");
        assert_ne!(batch, batches(1).random(&text, 8));
        assert_ne!(batch, batches(2).random(&text, 7));
        assert_eq!(batch.inputs.len(), 64);
        for (input, target) in batch.inputs.iter().zip(&batch.targets) {
            assert_eq!(input + 1, *target, "the token after it");
        }
    }

    #[test]
    fn validation_covers_the_text() {
        let text: Vec<i32> = (0..1_000).collect();
        let batches = Batches { size: 4, context: 16, seed: 1 }.spread(&text, 5);
        let starts: Vec<i32> = batches.iter().flat_map(|batch| batch.inputs.iter().copied().step_by(16)).collect();
        assert_eq!((batches.len(), starts.len()), (5, 20));
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 49 || pair[1] - pair[0] == 50), "{starts:?}");
        assert_eq!(Batches { size: 4, context: 16, seed: 1 }.spread(&text[..17], 5).len(), 5, "one window, 20 times");
    }
}
