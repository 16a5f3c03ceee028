//! burn's own AdamW with the same settings, to compare with.

use std::path::Path;

use burn::module::ParamGroup;
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::prelude::*;
use wgpu_optim::Schedule;

use crate::Result;
use crate::clip_global::clip_global;
use crate::model::{Gpt, NO_DECAY};
use crate::optimizer::Trainer;

pub(crate) struct BurnAdamW {
    optimizer: ModuleOptimizer,
    schedule: Schedule,
    max_norm: f64,
    steps: u64,
    accumulated: GradientsAccumulator<Gpt>,
    norm: Option<Tensor<1>>,
}

impl BurnAdamW {
    /// Betas and epsilon are PyTorch's, and wgpu-optim's: burn's default epsilon is 1e-5.
    pub(crate) fn new(schedule: Schedule, weight_decay: f64, max_norm: f64) -> Self {
        let config = AdamWConfig::new().with_epsilon(1e-8);
        let no_decay = config.clone().with_weight_decay(0.0).build();
        let optimizer = config.with_weight_decay(weight_decay as f32).init().with_group(
            ParamGroup::from_any_predicates(NO_DECAY.to_vec()),
            no_decay,
            None,
        );
        Self { optimizer, schedule, max_norm, steps: 0, accumulated: GradientsAccumulator::new(), norm: None }
    }
}

impl Trainer for BurnAdamW {
    fn step(&mut self, model: Gpt, grads: GradientsParams) -> Result<Gpt> {
        let lr = self.schedule.lr(self.steps)?;
        self.steps += 1;
        let (grads, norm) = clip_global(&model, grads, self.max_norm);
        self.norm = norm;
        Ok(self.optimizer.step(lr, model, grads))
    }

    fn accumulate(&mut self, model: &Gpt, grads: GradientsParams) -> Result<()> {
        self.accumulated.accumulate(model, grads);
        Ok(())
    }

    fn step_accumulated(&mut self, model: Gpt) -> Result<Gpt> {
        let grads = self.accumulated.grads();
        self.step(model, grads)
    }

    fn grad_norm(&mut self) -> Result<Option<f64>> {
        Ok(self.norm.clone().map(|norm| norm.into_scalar::<f32>().into()))
    }

    fn eval(&mut self, model: Gpt) -> Result<Gpt> {
        Ok(model)
    }

    fn train(&mut self, model: Gpt) -> Result<Gpt> {
        Ok(model)
    }

    fn save(&self, _path: &Path, _model: &Gpt) -> Result<()> {
        Err("a comparison saves nothing".into())
    }
}
