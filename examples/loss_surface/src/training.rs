//! Training runs whose parameters are kept on the way.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use wgpu_optim::{Adam, Optimizer, OptimizerBuilder, Precision, Sam, Schedule, Sgd};

use crate::Result;
use examples_common::device::Device;
use examples_common::read::read;
use mlp_mnist::cpu::CpuEngine;
use mlp_mnist::data::Data;
use mlp_mnist::engine::{Batches, Engine, Score};
use mlp_mnist::gpu::GpuEngine;
use mlp_mnist::model::Model;

/// Points of a path, as far as there are steps.
const POINTS: usize = 40;

/// The rule of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Method {
    Adam,
    /// With momentum.
    Sgd,
    /// Around the same SGD.
    Sam(Sam),
}

impl Method {
    fn builder(self, lr: f64) -> OptimizerBuilder {
        let sgd = || Optimizer::builder(Sgd::default().with_lr(lr).with_momentum(0.9));
        match self {
            Self::Adam => Optimizer::builder(Adam::default().with_lr(lr)),
            Self::Sgd => sgd(),
            Self::Sam(sam) => sgd().sam(sam),
        }
    }
}

/// How long and how to train.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) batch_size: usize,
    pub(crate) epochs: usize,
    pub(crate) lr: f64,
    pub(crate) seed: u64,
    pub(crate) method: Method,
}

#[derive(Debug)]
pub(crate) struct Trained {
    /// The parameters on the way, the first and the last ones included.
    pub(crate) path: Vec<Vec<f32>>,
    /// Over the test set, at the end.
    pub(crate) test: Score,
}

impl Trained {
    pub(crate) fn parameters(&self) -> &[f32] {
        self.path.last().map_or(&[], Vec::as_slice)
    }
}

enum Network<'a> {
    Cpu(Box<CpuEngine<'a>>),
    Gpu(Box<GpuEngine>),
}

impl Network<'_> {
    fn engine(&mut self) -> &mut dyn Engine {
        match self {
            Self::Cpu(engine) => &mut **engine,
            Self::Gpu(engine) => &mut **engine,
        }
    }

    fn parameters(&self) -> Result<Vec<f32>> {
        match self {
            Self::Cpu(engine) => Ok(engine.parameters.to_f32()),
            Self::Gpu(engine) => read(&engine.gpu, &engine.parameters),
        }
    }
}

/// Trains with a learning rate that falls as half a cosine.
pub(crate) fn train(device: &Device, model: &Model, data: &Data, plan: &Plan) -> Result<Trained> {
    let batches = Batches { len: data.train.len(), size: plan.batch_size };
    let steps = plan.epochs * batches.count();
    let optimizer = plan.method.builder(plan.lr).schedule(Schedule::warmup_cosine(plan.lr, 0, steps as u64));
    let start = model.initial_parameters(plan.seed);
    let mut path = vec![start.clone()];
    let precision = Precision::default();
    let mut network = match device {
        Device::Cpu => {
            let optimizer = optimizer.build_cpu(&model.layout)?;
            Network::Cpu(Box::new(CpuEngine::new(model, data, optimizer, &precision, plan.batch_size, &start)?))
        }
        Device::Gpu(gpu) => {
            let optimizer = optimizer.build(&gpu.device, &gpu.queue, &model.layout)?;
            let gpu = gpu.clone();
            Network::Gpu(Box::new(GpuEngine::new(gpu, model, data, optimizer, &precision, plan.batch_size, &start)?))
        }
    };

    let mut order: Vec<u32> = (0..data.train.len() as u32).collect();
    let mut rng = StdRng::seed_from_u64(plan.seed);
    for step in 0..steps {
        let batch = step % batches.count();
        if batch == 0 {
            order.shuffle(&mut rng);
            network.engine().begin_epoch(&order);
        }
        if let Method::Sam(_) = plan.method {
            network.engine().perturb(batch)?;
        }
        network.engine().step(batch, false)?;
        // Reading also bounds the steps that wait on a device.
        if (step + 1) % steps.div_ceil(POINTS) == 0 || step + 1 == steps {
            path.push(network.parameters()?);
        }
    }
    Ok(Trained { path, test: network.engine().evaluate()? })
}
