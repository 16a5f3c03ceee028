//! The crate's two engines, set up for a case.

use wgpu_optim::wgpu::{self, CommandEncoderDescriptor, PollType};
use wgpu_optim::{
    Adam, AdamW, Clip, CpuOptimizer, GradScale, GroupOptions, Lamb, Lars, Layout, Lion, NonFinite, NovoGrad,
};
use wgpu_optim::{Optimizer, OptimizerBuilder, Schedule, Sgd, Stats};

use super::cases::Case;
use super::common::device;

pub trait Engine {
    /// What the next step will use.
    fn lr(&self) -> f64;
    fn step(&mut self, grads: &[f32]) -> Stats;
    fn params(&self) -> Vec<f32>;
    fn state(&self, name: &str) -> Vec<f32>;
}

pub struct Cpu {
    optimizer: CpuOptimizer,
    params: Vec<f32>,
}

impl Cpu {
    pub fn new(case: &Case) -> Self {
        let mut optimizer = builder(case).build_cpu(&layout(case)).expect("a CPU optimizer");
        if let Some(scale) = case.grad_scale {
            optimizer.set_grad_scale(scale as f32).expect("a scale");
        }
        Self { optimizer, params: case.param0.clone() }
    }
}

impl Engine for Cpu {
    fn lr(&self) -> f64 {
        self.optimizer.lr()
    }

    fn step(&mut self, grads: &[f32]) -> Stats {
        self.optimizer.step(&mut self.params, grads).expect("a step")
    }

    fn params(&self) -> Vec<f32> {
        self.params.clone()
    }

    fn state(&self, name: &str) -> Vec<f32> {
        self.optimizer.state(name).unwrap_or_else(|| panic!("no state {name}")).to_vec()
    }
}

/// What fills a buffer behind the layout's last element.
const CANARY: f32 = 1234.5;

pub struct Device {
    optimizer: Optimizer,
    params: wgpu::Buffer,
    len: usize,
    buffer_len: usize,
}

impl Device {
    /// `padded`: buffers of [`Layout::buffer_size`], else of exactly the layout's elements. The kernels move four
    /// elements at a time in the one and single elements in the other.
    pub fn new(case: &Case, padded: bool) -> Self {
        let gpu = device::gpu();
        let layout = layout(case);
        let mut optimizer = builder(case).build(&gpu.device, &layout).expect("an optimizer");
        if let Some(scale) = case.grad_scale {
            optimizer.set_grad_scale(GradScale::Value(scale as f32)).expect("a scale");
        }
        let len = layout.len();
        let buffer_len = if padded { layout.buffer_size() as usize / 4 } else { len };
        let params = device::upload(gpu, &extended(&case.param0, buffer_len));
        Self { optimizer, params, len, buffer_len }
    }
}

impl Engine for Device {
    fn lr(&self) -> f64 {
        self.optimizer.lr()
    }

    fn step(&mut self, grads: &[f32]) -> Stats {
        let gpu = device::gpu();
        let grads = device::upload(gpu, &extended(grads, self.buffer_len));
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        self.optimizer.step(&mut encoder, &gpu.queue, &self.params, &grads).expect("a step");
        let stats = self.optimizer.stats(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        gpu.device.poll(PollType::wait_indefinitely()).expect("the device answers");
        pollster::block_on(stats).expect("statistics")
    }

    fn params(&self) -> Vec<f32> {
        let mut params = device::download(device::gpu(), &self.params);
        let behind = params.split_off(self.len);
        assert!(behind.iter().all(|&canary| canary == CANARY), "written behind the parameters: {behind:?}");
        params
    }

    fn state(&self, name: &str) -> Vec<f32> {
        let slices = self.optimizer.state(name).unwrap_or_else(|| panic!("no state {name}"));
        slices.into_iter().flat_map(|slice| device::download_slice(device::gpu(), slice)).collect()
    }
}

fn extended(values: &[f32], len: usize) -> Vec<f32> {
    let mut values = values.to_vec();
    values.resize(len, CANARY);
    values
}

fn layout(case: &Case) -> Layout {
    let mut layout = Layout::builder().packed();
    for (index, group) in case.groups.iter().enumerate() {
        layout = layout.tensor(format!("tensor {index}"), &[group.elements]).group(format!("group {index}"));
    }
    layout.build().expect("a layout")
}

fn builder(case: &Case) -> OptimizerBuilder {
    let (lr, weight_decay, maximize) = (case.option("lr", 0.0), case.weight_decay(), case.flag("maximize"));
    let adam_betas = case.betas((0.9, 0.999));
    let (eps, amsgrad) = (case.option("eps", 1e-8), case.flag("amsgrad"));
    let mut builder = match case.rule.as_str() {
        "sgd" => {
            let (momentum, dampening) = (case.option("momentum", 0.0), case.option("dampening", 0.0));
            let nesterov = case.flag("nesterov");
            Optimizer::builder(Sgd { lr, momentum, dampening, weight_decay, nesterov, maximize })
        }
        "adam" => Optimizer::builder(Adam { lr, betas: adam_betas, eps, weight_decay, amsgrad, maximize }),
        "adamw" => Optimizer::builder(AdamW { lr, betas: adam_betas, eps, weight_decay, amsgrad, maximize }),
        "lion" => Optimizer::builder(Lion { lr, betas: case.betas((0.9, 0.99)), weight_decay, maximize }),
        "lars" | "lars_optax" => {
            let default = if case.is_convention("optax") { Lars::optax() } else { Lars::torch() };
            Optimizer::builder(Lars {
                lr,
                momentum: case.option("momentum", default.momentum),
                dampening: case.option("dampening", 0.0),
                weight_decay,
                nesterov: case.flag("nesterov"),
                trust_coefficient: case.option("trust_coefficient", default.trust_coefficient),
                eps: case.option("eps", default.eps),
                maximize,
                ..default
            })
        }
        "lamb" | "lamb_optax" => Optimizer::builder(Lamb {
            lr,
            betas: adam_betas,
            eps: case.option("eps", 1e-6),
            weight_decay,
            nvlamb: case.is_convention("optax") || case.flag("nvlamb"),
            ratio_range: case.pair("ratio_range"),
            maximize,
        }),
        "novograd" | "novograd_optax" => {
            let default = if case.is_convention("optax") { NovoGrad::optax() } else { NovoGrad::torch() };
            let (betas, eps) = (case.betas(default.betas), case.option("eps", default.eps));
            let grad_averaging = case.flag("grad_averaging");
            Optimizer::builder(NovoGrad { lr, betas, eps, weight_decay, grad_averaging, maximize })
        }
        other => panic!("no rule for {other}"),
    };
    if let Some(schedule) = &case.schedule {
        let warmup_cosine = Schedule::warmup_cosine(schedule.peak, schedule.warmup, schedule.total_steps);
        builder = builder.schedule(warmup_cosine.with_min_lr(schedule.min_lr));
    }
    if let Some(max_norm) = case.max_norm {
        builder = builder.clip(Clip::global_norm(max_norm));
    }
    if case.grad_scale.is_some() {
        builder = builder.nonfinite(NonFinite::Skip);
    }
    for (index, group) in case.groups.iter().enumerate() {
        let mut options = GroupOptions::default().with_lr_scale(group.lr_scale);
        if let Some(weight_decay) = group.weight_decay {
            options = options.with_weight_decay(weight_decay);
        }
        builder = builder.group(format!("group {index}"), if group.frozen { options.frozen() } else { options });
    }
    builder
}
