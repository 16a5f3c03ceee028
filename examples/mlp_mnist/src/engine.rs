//! The training loop's interface to a device.

#[cfg(feature = "program")]
use std::{fs::File, io::BufReader, path::Path};

use wgpu_optim::Stats;
#[cfg(feature = "program")]
use wgpu_optim::checkpoint::{Checkpoint, LoadOptions, Loaded};

use crate::Result;

/// Cuts `len` examples into batches of `size`; the last one may be smaller.
#[derive(Debug, Clone, Copy)]
pub struct Batches {
    pub len: usize,
    pub size: usize,
}

impl Batches {
    pub fn count(self) -> usize {
        self.len.div_ceil(self.size)
    }

    pub fn first(self, batch: usize) -> usize {
        batch * self.size
    }

    pub fn rows(self, batch: usize) -> usize {
        self.size.min(self.len - self.first(batch))
    }
}

/// Loss and hits over some examples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// Sum of the cross-entropies, in nats.
    pub loss_sum: f64,
    pub correct: u64,
    pub examples: u64,
}

impl Score {
    /// Mean cross-entropy in nats.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.examples as f64
    }

    /// Share of correct predictions in percent.
    pub fn accuracy(&self) -> f64 {
        100.0 * self.correct as f64 / self.examples as f64
    }

    pub fn add(&mut self, other: &Self) {
        self.loss_sum += other.loss_sum;
        self.correct += other.correct;
        self.examples += other.examples;
    }
}

/// Statistics of training, asked for with a step.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// All training examples since the report before.
    pub score: Score,
    /// The optimizer after the step.
    pub stats: Stats,
}

/// Options of resuming: the command line sets the learning rate.
#[cfg(feature = "program")]
pub fn load_options() -> LoadOptions {
    LoadOptions::default().keep_schedule()
}

/// A network, its optimizer and its data on one device.
pub trait Engine {
    /// Begins an epoch that takes the training examples in this order.
    fn begin_epoch(&mut self, order: &[u32]);

    /// Moves the parameters along the gradient of one batch, for an optimizer with SAM. The step that follows starts from where
    /// they were. Its report counts the examples of both.
    fn perturb(&mut self, batch: usize) -> Result<()>;

    /// Forward, backward and optimizer step over one batch of the epoch; `report` asks for statistics.
    fn step(&mut self, batch: usize, report: bool) -> Result<()>;

    /// The reports that have arrived, in order. `wait` for all that were asked for, or take what is there.
    fn reports(&mut self, wait: bool) -> Result<Vec<Report>>;

    /// Saves network and optimizer to a file.
    #[cfg(feature = "program")]
    fn save(&self, path: &Path) -> Result<()>;

    /// Continues from a file. Returns its settings that the command line does not share.
    #[cfg(feature = "program")]
    fn load(&mut self, checkpoint: &mut Checkpoint<BufReader<File>>) -> Result<Loaded>;

    /// The score over the test set.
    fn evaluate(&mut self) -> Result<Score>;
}
