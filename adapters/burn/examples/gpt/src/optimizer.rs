//! The optimizer as the training loop sees it, and that of this crate.

use std::path::Path;

use burn::backend::wgpu::WgpuSetup;
use burn::optim::GradientsParams;
use wgpu_optim::wgpu::PollType;
use wgpu_optim_burn::FusedOptimizer;

use crate::Result;
use crate::model::Gpt;

/// Steps of a training loop.
pub(crate) trait Trainer {
    /// Updates the parameters.
    fn step(&mut self, model: Gpt, grads: GradientsParams) -> Result<Gpt>;

    /// Adds the gradients to a sum.
    fn accumulate(&mut self, model: &Gpt, grads: GradientsParams) -> Result<()>;

    /// Updates the parameters with the sum, which is 0 after it.
    fn step_accumulated(&mut self, model: Gpt) -> Result<Gpt>;

    /// The gradients' global norm before clipping in the last step, if it was computed. Waits for the device.
    fn grad_norm(&mut self) -> Result<Option<f64>>;

    /// Puts what is to be evaluated into the parameters.
    fn eval(&mut self, model: Gpt) -> Result<Gpt>;

    /// Puts the training parameters back.
    fn train(&mut self, model: Gpt) -> Result<Gpt>;

    fn save(&self, path: &Path, model: &Gpt) -> Result<()>;
}

/// wgpu-optim on burn's buffers.
pub(crate) struct Fused {
    optimizer: FusedOptimizer,
    setup: WgpuSetup,
    is_averaged: bool,
}

impl Fused {
    pub(crate) fn new(optimizer: FusedOptimizer, setup: &WgpuSetup, is_averaged: bool) -> Self {
        Self { optimizer, setup: setup.clone(), is_averaged }
    }

    /// Continues from a file. Returns the steps that were done, and the parameters after them.
    pub(crate) fn load(&mut self, path: &Path, model: Gpt) -> Result<(u64, Gpt)> {
        let checkpoint = wgpu_optim::checkpoint::Checkpoint::open(path)?;
        let done = checkpoint.stats().step + checkpoint.stats().skipped;
        let (model, loaded) = self.optimizer.load(path, model)?;
        for difference in &loaded.differences {
            println!("{}: {difference}", path.display());
        }
        Ok((done, model))
    }
}

impl Trainer for Fused {
    fn step(&mut self, model: Gpt, grads: GradientsParams) -> Result<Gpt> {
        Ok(self.optimizer.step(None, model, grads)?)
    }

    fn accumulate(&mut self, model: &Gpt, grads: GradientsParams) -> Result<()> {
        Ok(self.optimizer.accumulate(model, grads, 1.0)?)
    }

    fn step_accumulated(&mut self, model: Gpt) -> Result<Gpt> {
        Ok(self.optimizer.step_accumulated(None, model)?)
    }

    fn grad_norm(&mut self) -> Result<Option<f64>> {
        let mut stats = self.optimizer.stats();
        self.setup.device.poll(PollType::wait_indefinitely())?;
        let stats = stats.try_take().ok_or("the device was polled, but the statistics have not arrived")??;
        Ok(stats.grad_norm.map(f64::from))
    }

    fn eval(&mut self, model: Gpt) -> Result<Gpt> {
        if self.is_averaged { Ok(self.optimizer.eval(model)?) } else { Ok(model) }
    }

    fn train(&mut self, model: Gpt) -> Result<Gpt> {
        if self.is_averaged { Ok(self.optimizer.train(model)?) } else { Ok(model) }
    }

    fn save(&self, path: &Path, model: &Gpt) -> Result<()> {
        Ok(self.optimizer.save(path, model)?)
    }
}
