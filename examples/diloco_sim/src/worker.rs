//! What is drawn for each worker: its images, its machine and its network.

use mlp_mnist::data::Examples;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Digits.
const CLASSES: usize = 10;

pub struct Machine {
    /// The worker's images.
    pub images: Vec<usize>,
    pub seconds_per_step: f64,
    pub bytes_per_second: f64,
    /// Probability that the worker is lost before an exchange.
    pub loss: f64,
}

impl Machine {
    /// The machine of a worker. The same seed draws the same one.
    pub fn draw(seed: u64, worker: usize, examples: &Examples) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ (worker as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Squares of exponential numbers: a few digits make up most of a worker's images.
        let weights: [f64; CLASSES] = std::array::from_fn(|_| exponential(&mut random).powi(2));
        let all: f64 = weights.iter().sum();
        let wanted = log_normal(&mut random, 100.0, 1.0).max(8.0);
        let mut images = Vec::new();
        for (class, weight) in weights.into_iter().enumerate() {
            let of_class: Vec<usize> =
                (0..examples.len()).filter(|&image| usize::from(examples.labels[image]) == class).collect();
            let count = (wanted * weight / all).round() as usize;
            images.extend((0..count).map(|_| of_class[random.random_range(0..of_class.len())]));
        }
        if images.is_empty() {
            images.push(random.random_range(0..examples.len()));
        }
        Self {
            images,
            seconds_per_step: log_normal(&mut random, 1.0, 0.4),
            bytes_per_second: log_normal(&mut random, 20e6, 0.8),
            loss: (0.02 * exponential(&mut random)).min(0.5),
        }
    }

    /// Seconds of `steps` steps and of an exchange of so many bytes.
    pub fn seconds(&self, steps: u64, bytes: f64) -> f64 {
        steps as f64 * self.seconds_per_step + bytes / self.bytes_per_second
    }
}

/// Mean 1.
fn exponential(random: &mut StdRng) -> f64 {
    -(1.0 - random.random::<f64>()).ln()
}

/// Box and Muller's normal number, as an exponent.
fn log_normal(random: &mut StdRng, median: f64, sigma: f64) -> f64 {
    let radius = (2.0 * exponential(random)).sqrt();
    median * (sigma * radius * (std::f64::consts::TAU * random.random::<f64>()).cos()).exp()
}
