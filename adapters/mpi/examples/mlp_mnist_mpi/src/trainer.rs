//! The two ways of training together.

use std::error::Error;

use wgpu_optim::distributed::{Communicator, DiLoCo, Sharded};
use wgpu_optim::{AdamW, CpuOptimizer, HostSlice, Layout, Optimizer};

use crate::{Args, Mode};

pub enum Trainer<'a, C> {
    Zero1(Sharded<CpuOptimizer, &'a mut C>),
    Diloco { optimizer: CpuOptimizer, diloco: DiLoCo, ranks: &'a mut C },
}

impl<'a, C: Communicator> Trainer<'a, C> {
    pub fn new(args: &Args, layout: &Layout, params: &[f32], ranks: &'a mut C) -> Result<Self, Box<dyn Error>> {
        let builder = Optimizer::builder(AdamW::default().with_lr(args.lr));
        Ok(match args.mode {
            Mode::Zero1 => Self::Zero1(Sharded::build_cpu(builder, layout, ranks)?),
            Mode::Diloco => {
                let diloco = DiLoCo::builder(args.every).build(layout, params)?;
                Self::Diloco { optimizer: builder.build_cpu(layout)?, diloco, ranks }
            }
        })
    }

    /// One step with the gradients of this rank's images.
    pub fn step(&mut self, params: &mut [f32], grads: &mut [f32]) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Zero1(sharded) => {
                sharded.step(params, grads)?;
            }
            Self::Diloco { optimizer, diloco, ranks } => {
                optimizer.step(&mut *params, &*grads)?;
                diloco.count_step()?;
                diloco.synchronize(params, ranks)?;
            }
        }
        Ok(())
    }

    /// Replaces the parameters by those to keep.
    pub fn finish(&mut self, params: &mut [f32]) -> Result<(), Box<dyn Error>> {
        if let Self::Diloco { diloco, .. } = self {
            diloco.global_params(params)?;
        }
        Ok(())
    }

    /// Bytes of the states of this rank's AdamW.
    pub fn state_bytes(&self) -> u64 {
        let optimizer = match self {
            Self::Zero1(sharded) => sharded.optimizer(),
            Self::Diloco { optimizer, .. } => optimizer,
        };
        optimizer.state_names().filter_map(|name| optimizer.state(name)).map(|state| bytes(state) as u64).sum()
    }
}

fn bytes(state: HostSlice<'_>) -> usize {
    state.bytes().len()
}
