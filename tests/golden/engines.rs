//! The crate's two engines, set up for a case.

use wgpu_optim::wgpu::{self, CommandEncoderDescriptor, PollType};
use wgpu_optim::{
    AdEMAMix, AdaBelief, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Adan, Clip, CpuOptimizer, Curvature, Dtype,
    GradScale, GroupOptions, Lamb, Lars, Layout, Lion, NAdam, NonFinite, NovoGrad, Optimizer, OptimizerBuilder,
    Prodigy, RAdam, RmsProp, Rprop, Schedule, ScheduleFreeAdamW, ScheduleFreeSgd, Sgd, SignSgd, Sophia, StableAdamW,
    Stats, Yogi,
};

use super::cases::Case;
use crate::common::{bf16, device};

pub trait Engine {
    /// What the next step will use.
    fn lr(&self) -> f64;
    fn step(&mut self, grads: &[f32]) -> Stats;
    fn update_hessian(&mut self, estimate: &[f32]);
    fn eval(&mut self);
    fn train(&mut self);
    fn params(&self) -> Vec<f32>;
    fn state(&self, name: &str) -> Vec<f32>;
}

pub struct Cpu {
    optimizer: CpuOptimizer,
    params: Vec<f32>,
    grad_dtype: Dtype,
}

impl Cpu {
    pub fn new(case: &Case) -> Self {
        let mut optimizer = builder(case).build_cpu(&layout(case)).expect("a CPU optimizer");
        if let Some(scale) = case.grad_scale {
            optimizer.set_grad_scale(scale as f32).expect("a scale");
        }
        Self { optimizer, params: case.param0.clone(), grad_dtype: case.grad_dtype }
    }
}

impl Engine for Cpu {
    fn lr(&self) -> f64 {
        self.optimizer.lr().expect("a rate")
    }

    fn step(&mut self, grads: &[f32]) -> Stats {
        let stats = match self.grad_dtype {
            Dtype::Bf16 => self.optimizer.step(&mut self.params, &bf16::exact(grads)),
            _ => self.optimizer.step(&mut self.params, grads),
        };
        stats.expect("a step")
    }

    fn update_hessian(&mut self, estimate: &[f32]) {
        self.optimizer.update_hessian(&mut self.params, estimate).expect("an update");
    }

    fn eval(&mut self) {
        self.optimizer.eval(&mut self.params).expect("evaluation");
    }

    fn train(&mut self) {
        self.optimizer.train(&mut self.params).expect("training");
    }

    fn params(&self) -> Vec<f32> {
        self.params.clone()
    }

    fn state(&self, name: &str) -> Vec<f32> {
        self.optimizer.state(name).unwrap_or_else(|| panic!("no state {name}")).to_f32()
    }
}

/// What fills a buffer behind the layout's last element.
const CANARY: f32 = 1232.0;

pub struct Device {
    optimizer: Optimizer,
    params: wgpu::Buffer,
    len: usize,
    buffer_len: usize,
    grad_dtype: Dtype,
}

impl Device {
    /// `padded`: buffers of [`Layout::buffer_size`], else of exactly the layout's elements. The kernels move four
    /// elements at a time in the one and single elements in the other.
    pub fn new(case: &Case, padded: bool) -> Self {
        let gpu = device::gpu();
        let layout = layout(case);
        let mut optimizer = device::build(gpu, builder(case), &layout).expect("an optimizer");
        if let Some(scale) = case.grad_scale {
            optimizer.set_grad_scale(GradScale::Value(scale as f32)).expect("a scale");
        }
        let len = layout.len();
        let buffer_len = if padded { layout.buffer_size() as usize / 4 } else { len };
        let params = device::upload(gpu, &extended(&case.param0, buffer_len));
        Self { optimizer, params, len, buffer_len, grad_dtype: case.grad_dtype }
    }
}

impl Engine for Device {
    fn lr(&self) -> f64 {
        self.optimizer.lr().expect("a rate")
    }

    fn step(&mut self, grads: &[f32]) -> Stats {
        let gpu = device::gpu();
        let grads = match self.grad_dtype {
            Dtype::Bf16 => {
                let buffer_len =
                    if self.buffer_len == self.len { self.len } else { self.buffer_len.next_multiple_of(8) };
                bf16::upload(gpu, &bf16::exact(&extended(grads, buffer_len)))
            }
            _ => device::upload(gpu, &extended(grads, self.buffer_len)),
        };
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        self.optimizer.step(&mut encoder, &self.params, &grads).expect("a step");
        let stats = self.optimizer.stats(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        gpu.device.poll(PollType::wait_indefinitely()).expect("the device answers");
        pollster::block_on(stats).expect("statistics")
    }

    fn update_hessian(&mut self, estimate: &[f32]) {
        let gpu = device::gpu();
        let estimate = device::upload(gpu, &extended(estimate, self.buffer_len));
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        self.optimizer.update_hessian(&mut encoder, &self.params, &estimate).expect("an update");
        gpu.queue.submit([encoder.finish()]);
    }

    fn eval(&mut self) {
        let gpu = device::gpu();
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        self.optimizer.eval(&mut encoder, &self.params).expect("evaluation");
        gpu.queue.submit([encoder.finish()]);
    }

    fn train(&mut self) {
        let gpu = device::gpu();
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        self.optimizer.train(&mut encoder, &self.params).expect("training");
        gpu.queue.submit([encoder.finish()]);
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
        layout = layout.tensor(format!("tensor {index}"), &group.shape).group(format!("group {index}"));
    }
    layout.build().expect("a layout")
}

fn builder(case: &Case) -> OptimizerBuilder {
    let (lr, weight_decay, maximize) = (case.option("lr", 0.0), case.weight_decay(), case.flag("maximize"));
    let adam_betas = case.betas((0.9, 0.999));
    let eps = if case.rule.starts_with("adafactor") { 0.0 } else { case.option("eps", 1e-8) };
    let builder = match case.rule.as_str() {
        "sgd" | "sgd_conventions" | "sgd_cautious" => {
            let (momentum, dampening) = (case.option("momentum", 0.0), case.option("dampening", 0.0));
            let nesterov = case.flag("nesterov");
            let base = if case.convention() == Some("keras") { Sgd::keras() } else { Sgd::default() };
            let dampen_first_step = case.flag("dampen_first_step");
            let rule = Sgd { lr, momentum, dampening, dampen_first_step, weight_decay, nesterov, maximize, ..base };
            Optimizer::builder(rule.with_cautious(case.flag("caution")))
        }
        "adam" | "adam_conventions" | "adam_cautious" => Optimizer::builder(adam(case)),
        "adamw" | "adamw_conventions" | "adamw_cautious" => Optimizer::builder(adamw(case)),
        "adagrad" | "adagrad_conventions" => Optimizer::builder(adagrad(case)),
        "rmsprop" | "rmsprop_conventions" => Optimizer::builder(rmsprop(case)),
        "adadelta" => {
            let (rho, eps) = (case.option("rho", 0.9), case.option("eps", 1e-6));
            Optimizer::builder(Adadelta { lr, rho, eps, weight_decay, maximize })
        }
        "rprop" => {
            let (etas, step_sizes) = (case.pair("etas", (0.5, 1.2)), case.pair("step_sizes", (1e-6, 50.0)));
            Optimizer::builder(Rprop { lr, etas, step_sizes, maximize })
        }
        "nadam" | "nadam_conventions" => {
            let base = if case.convention() == Some("optax") { NAdam::optax() } else { NAdam::torch() };
            let (betas, eps_root) = (adam_betas, case.option("eps_root", 0.0));
            let momentum_decay = case.option("momentum_decay", 4e-3);
            let decoupled_weight_decay = base.decoupled_weight_decay || case.flag("decoupled_weight_decay");
            let base = NAdam { lr, betas, eps, eps_root, weight_decay, momentum_decay, maximize, ..base };
            Optimizer::builder(base.with_decoupled_weight_decay(decoupled_weight_decay))
        }
        "sophia" => {
            let curvature = Curvature::SampledLabels { rho: case.option("rho", 0.04), bs: case.option("bs", 5_120.0) };
            Optimizer::builder(Sophia { lr, betas: case.betas((0.965, 0.99)), curvature, weight_decay, maximize })
        }
        "sophia_h" => {
            let curvature = Curvature::Hutchinson { gamma: case.option("gamma", 0.01), eps };
            Optimizer::builder(Sophia { lr, betas: case.betas((0.965, 0.99)), curvature, weight_decay, maximize })
        }
        "schedule_free_sgd" => {
            let (warmup_steps, r) = (case.option("warmup_steps", 0.0) as u64, case.option("r", 0.0));
            let (momentum, weight_lr_power) = (case.option("momentum", 0.9), case.option("weight_lr_power", 2.0));
            let rule = ScheduleFreeSgd { lr, momentum, weight_decay, warmup_steps, r, weight_lr_power, maximize };
            Optimizer::builder(rule)
        }
        "schedule_free_adamw" => {
            let (warmup_steps, r) = (case.option("warmup_steps", 0.0) as u64, case.option("r", 0.0));
            let (betas, weight_lr_power) = (adam_betas, case.option("weight_lr_power", 2.0));
            let rule = ScheduleFreeAdamW { lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power, maximize };
            Optimizer::builder(rule)
        }
        "lion" | "lion_cautious" | "lion_conventions" => {
            let (betas, cautious) = (case.betas((0.9, 0.99)), case.flag("caution"));
            let base = if case.convention() == Some("optax") { Lion::optax() } else { Lion::default() };
            let weight_decay = case.option("weight_decay", base.weight_decay);
            Optimizer::builder(Lion { lr, betas, weight_decay, cautious, maximize, ..base })
        }
        "prodigy" => Optimizer::builder(Prodigy {
            lr,
            betas: adam_betas,
            beta3: case.optional("beta3"),
            eps,
            weight_decay,
            decouple: case.flag_or("decouple", true),
            use_bias_correction: case.flag("use_bias_correction"),
            safeguard_warmup: case.flag("safeguard_warmup"),
            d0: case.option("d0", 1e-6),
            d_coef: case.option("d_coef", 1.0),
            growth_rate: case.optional("growth_rate"),
            maximize,
        }),
        "lars" | "lars_optax" | "lamb" | "lamb_optax" | "novograd" | "novograd_optax" | "adafactor"
        | "adafactor_optax" | "stable_adamw" => tensor_norms(case),
        _ => adaptive(case),
    };
    let mut builder = builder.grad_dtype(case.grad_dtype);
    if let Some(schedule) = &case.schedule {
        let warmup_cosine = Schedule::warmup_cosine(schedule.peak, schedule.warmup, schedule.total_steps);
        builder = builder.schedule(warmup_cosine.with_min_lr(schedule.min_lr));
    }
    if let Some(max_norm) = case.max_norm {
        builder = builder.clip(Clip::global_norm(max_norm));
    }
    if case.grad_scale.is_some() {
        builder = builder.on_nonfinite(NonFinite::Skip);
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

fn adam(case: &Case) -> Adam {
    let base = match case.convention() {
        None => Adam::torch(),
        Some("optax") => Adam::optax(),
        Some("keras") => Adam::keras(),
        Some(other) => panic!("no convention {other}"),
    };
    Adam {
        lr: case.option("lr", base.lr),
        betas: case.betas(base.betas),
        eps: case.option("eps", base.eps),
        eps_root: case.option("eps_root", base.eps_root),
        weight_decay: case.option("weight_decay", base.weight_decay),
        amsgrad: case.flag("amsgrad"),
        cautious: case.flag("caution"),
        maximize: case.flag("maximize"),
        ..base
    }
}

fn adamw(case: &Case) -> AdamW {
    let base = match case.convention() {
        None => AdamW::torch().with_weight_decay(0.0),
        Some("optax") => AdamW::optax(),
        Some("keras") => AdamW::keras(),
        Some("bitsandbytes") => AdamW::bitsandbytes(),
        Some(other) => panic!("no convention {other}"),
    };
    AdamW {
        lr: case.option("lr", base.lr),
        betas: case.betas(base.betas),
        eps: case.option("eps", base.eps),
        eps_root: case.option("eps_root", base.eps_root),
        weight_decay: case.option("weight_decay", base.weight_decay),
        max_lr: case.optional("max_lr"),
        cautious: case.flag("caution"),
        amsgrad: case.flag("amsgrad"),
        maximize: case.flag("maximize"),
        ..base
    }
}

fn adagrad(case: &Case) -> Adagrad {
    let base = match case.convention() {
        None => Adagrad::default(),
        Some("optax") => Adagrad::optax(),
        Some("keras") => Adagrad::keras(),
        Some(other) => panic!("no convention {other}"),
    };
    Adagrad {
        lr: case.option("lr", base.lr),
        lr_decay: case.option("lr_decay", base.lr_decay),
        weight_decay: case.weight_decay(),
        initial_accumulator_value: case.option("initial_accumulator_value", base.initial_accumulator_value),
        eps: case.option("eps", base.eps),
        maximize: case.flag("maximize"),
        ..base
    }
}

fn rmsprop(case: &Case) -> RmsProp {
    let base = match case.convention() {
        None => RmsProp::default(),
        Some("optax") => RmsProp::optax(),
        Some("keras") => RmsProp::keras(),
        Some(other) => panic!("no convention {other}"),
    };
    RmsProp {
        lr: case.option("lr", base.lr),
        alpha: case.option("alpha", base.alpha),
        eps: case.option("eps", base.eps),
        weight_decay: case.weight_decay(),
        momentum: case.option("momentum", base.momentum),
        centered: case.flag("centered"),
        maximize: case.flag("maximize"),
        ..base
    }
}

/// Adafactor, and the rules of `cases_tensor_norms.py`.
fn tensor_norms(case: &Case) -> OptimizerBuilder {
    let (lr, weight_decay, maximize) = (case.option("lr", 0.0), case.weight_decay(), case.flag("maximize"));
    let optax = case.convention() == Some("optax");
    match case.rule.as_str() {
        "lars" | "lars_optax" => {
            let rule = if optax { Lars::optax() } else { Lars::torch() };
            let (momentum, dampening) = (case.option("momentum", rule.momentum), case.option("dampening", 0.0));
            let trust_coefficient = case.option("trust_coefficient", rule.trust_coefficient);
            let (nesterov, eps) = (case.flag("nesterov"), case.option("eps", rule.eps));
            let rule = Lars { lr, momentum, dampening, weight_decay, nesterov, trust_coefficient, eps, ..rule };
            Optimizer::builder(rule.with_maximize(maximize))
        }
        "lamb" | "lamb_optax" => {
            let rule = if optax { Lamb::optax() } else { Lamb::apex() };
            let (betas, eps) = (case.betas(rule.betas), case.option("eps", rule.eps));
            let (nvlamb, ratio_range) = (rule.nvlamb || case.flag("nvlamb"), case.optional_pair("ratio_range"));
            Optimizer::builder(Lamb { lr, betas, eps, weight_decay, nvlamb, ratio_range, maximize })
        }
        "adafactor" | "adafactor_optax" => {
            let rule = if case.convention().is_some() { Adafactor::optax() } else { Adafactor::torch() };
            let (beta2_decay, d) = (case.option("beta2_decay", rule.beta2_decay), case.option("d", rule.d));
            let eps = case.optional_pair("eps").map_or(rule.eps, |(eps1, eps2)| (Some(eps1), eps2));
            let min_dim_size_to_factor = case.steps_option("min_dim_size_to_factor");
            let min_dim_size_to_factor =
                min_dim_size_to_factor.map_or(rule.min_dim_size_to_factor, |size| size as usize);
            let rule = Adafactor { lr, beta2_decay, eps, d, weight_decay, min_dim_size_to_factor, maximize, ..rule };
            Optimizer::builder(rule)
        }
        "stable_adamw" => {
            let rule = StableAdamW::default();
            let (betas, eps) = (case.betas(rule.betas), case.option("eps", rule.eps));
            Optimizer::builder(StableAdamW { lr, betas, eps, weight_decay, maximize })
        }
        _ => {
            let rule = if optax { NovoGrad::optax() } else { NovoGrad::torch() };
            let (betas, eps) = (case.betas(rule.betas), case.option("eps", rule.eps));
            let grad_averaging = case.flag("grad_averaging");
            Optimizer::builder(NovoGrad { lr, betas, eps, weight_decay, grad_averaging, maximize })
        }
    }
}

/// Adamax, and the rules of `cases_adaptive.py`.
fn adaptive(case: &Case) -> OptimizerBuilder {
    let (lr, weight_decay, maximize) = (case.option("lr", 0.0), case.weight_decay(), case.flag("maximize"));
    let (betas, eps) = (case.betas((0.9, 0.999)), |default| case.option("eps", default));
    match case.rule.as_str() {
        "adamax" | "adamax_conventions" => {
            let base = if case.convention() == Some("optax") { Adamax::optax() } else { Adamax::torch() };
            Optimizer::builder(Adamax { lr, betas, eps: eps(1e-8), weight_decay, maximize, ..base })
        }
        "radam" | "radam_conventions" => {
            let base = if case.convention() == Some("optax") { RAdam::optax() } else { RAdam::torch() };
            let (decoupled_weight_decay, eps_root) =
                (case.flag("decoupled_weight_decay"), case.option("eps_root", 0.0));
            let base = RAdam { lr, betas, eps: eps(1e-8), eps_root, weight_decay, maximize, ..base };
            Optimizer::builder(base.with_decoupled_weight_decay(decoupled_weight_decay))
        }
        "adabelief" => {
            let eps_root = case.option("eps_root", 1e-16);
            Optimizer::builder(AdaBelief { lr, betas, eps: eps(1e-16), eps_root, weight_decay, maximize })
        }
        "yogi" => {
            let initial_accumulator_value = case.option("initial_accumulator_value", 1e-6);
            Optimizer::builder(Yogi { lr, betas, eps: eps(1e-3), initial_accumulator_value, weight_decay, maximize })
        }
        "adan" | "adan_cautious" => {
            let cautious = case.flag("caution");
            let rule = if case.convention() == Some("optax") { Adan::optax() } else { Adan::default() };
            let (betas, eps_root) = (case.three_betas(rule.betas), case.option("eps_root", rule.eps_root));
            let no_prox = rule.no_prox || case.flag("no_prox");
            let rule = Adan { lr, betas, eps: eps(1e-8), eps_root, weight_decay, no_prox, maximize, ..rule };
            Optimizer::builder(rule.with_cautious(cautious))
        }
        "signsgd" => {
            let momentum = case.option("momentum", 0.0);
            Optimizer::builder(SignSgd { lr, momentum, weight_decay, maximize })
        }
        "ademamix" => {
            let (betas, alpha) = (case.three_betas((0.9, 0.999, 0.9999)), case.option("alpha", 5.0));
            let (t_alpha, t_beta3) = (case.steps_option("t_alpha"), case.steps_option("t_beta3"));
            Optimizer::builder(AdEMAMix { lr, betas, alpha, t_alpha, t_beta3, eps: eps(1e-8), weight_decay, maximize })
        }
        other => panic!("no rule for {other}"),
    }
}
