//! Text that a network writes.

use burn::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Result;
use crate::model::Gpt;
use crate::text::Vocabulary;

/// Drawing of the next token.
#[derive(Debug, Clone)]
pub(crate) struct Speech {
    pub(crate) prompt: String,
    /// Characters after the prompt.
    pub(crate) length: usize,
    /// Divides the logits: below 1, likely tokens become likelier.
    pub(crate) temperature: f64,
    pub(crate) seed: u64,
}

impl Speech {
    /// The prompt and what the network writes after it. `model` is one without gradients, and each token waits for it.
    pub(crate) fn write(
        &self,
        model: &Gpt,
        vocabulary: &Vocabulary,
        context: usize,
        device: &Device,
    ) -> Result<String> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut tokens = vocabulary.encode(&self.prompt)?;
        for _ in 0..self.length {
            // One shape for all: what comes after the last token is masked.
            let mut window = tokens[tokens.len().saturating_sub(context)..].to_vec();
            let last = window.len() - 1;
            window.resize(context, 0);
            let window = Tensor::from_data(TensorData::new(window, [1, context]), device);
            let logits = model.forward(window).slice([0..1, last..last + 1]).into_data();
            let logits: Vec<f64> = logits.iter::<f64>().collect();
            tokens.push(draw(&logits, self.temperature, rng.random_range(0.0..1.0)));
        }
        Ok(vocabulary.decode(&tokens))
    }
}

/// The token at which the summed probabilities exceed `at`, a number from 0 to below 1.
fn draw(logits: &[f64], temperature: f64, at: f64) -> i32 {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|logit| ((logit - most) / temperature).exp()).collect();
    let mut left = at * weights.iter().sum::<f64>();
    let token = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    token.unwrap_or(weights.len() - 1) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_drawn_by_their_probabilities() {
        let logits = [1f64.ln(), 2f64.ln(), 1f64.ln()];
        let drawn = [0.0, 0.24, 0.26, 0.74, 0.76, 0.999].map(|at| draw(&logits, 1.0, at));
        assert_eq!(drawn, [0, 0, 1, 1, 2, 2]);
        assert_eq!([0.1, 0.9].map(|at| draw(&logits, 0.01, at)), [1, 1], "a low temperature takes the likeliest");
    }
}
