//! Every error is typed, says what was given and allowed, and comes before wgpu sees anything: these tests run on
//! wgpu's noop backend, which validates and computes nothing, and panics on what it refuses.

use crate::common::{device, rule, storage};
use wgpu_optim::clip::{Adaptive, GlobalNorm, Percentile};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::schedule::OneCycle;
use wgpu_optim::wgpu::{self, BufferUsages, CommandEncoderDescriptor};
use wgpu_optim::{
    AdEMAMix, AdaBelief, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Adan, BufferSlices, Clip, Curvature, Error,
    Gpu, GroupOptions, Lamb, Lars, Layout, LayoutBuilder, Lion, MAX_ELEMENTS, NAdam, NonFinite, NovoGrad, Optimizer,
    OptimizerBuilder, Prodigy, RAdam, RmsProp, Rprop, RuleConfig, Schedule, ScheduleFreeAdamW, ScheduleFreeSgd, Sgd,
    SignSgd, Sophia, StableAdamW, Yogi,
};

fn noop(change: impl FnOnce(&mut wgpu::Limits)) -> (wgpu::Device, wgpu::Queue) {
    let mut required_limits = wgpu::Limits::default();
    change(&mut required_limits);
    wgpu::Device::noop(&wgpu::DeviceDescriptor { required_limits, ..Default::default() })
}

/// The error's message, after a look at its variant.
macro_rules! refused {
    ($result:expr, $pattern:pat) => {{
        let error = $result.err().expect("it must be refused");
        assert!(matches!(error, $pattern), "{error:?}");
        error.to_string()
    }};
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn layouts_without_meaning_are_refused() {
    let message = refused!(Layout::builder().build(), Error::EmptyLayout);
    assert_says(&message, &["no tensors", ".tensor("]);
    let twice = Layout::builder().tensor("w", &[1]).tensor("w", &[2]).build();
    assert_says(&refused!(twice, Error::DuplicateTensor { .. }), &["\"w\"", "unique"]);
    let groupless = Layout::builder().group("g").tensor("w", &[1]).build();
    assert_says(&refused!(groupless, Error::GroupWithoutTensor { .. }), &["\"g\"", "after"]);
    #[allow(clippy::reversed_empty_ranges, reason = "the reversed range is the bad input")]
    for range in [0..11, 5..4, 11..11] {
        let outside = Layout::builder().tensor("w", &[10]).packed().range(range, "g").build();
        assert_says(&refused!(outside, Error::RangeOutOfBounds { .. }), &["0..10"]);
    }
    let overlap = Layout::builder().tensor("w", &[10]).range(4..6, "a").range(0..5, "b").build();
    assert_says(&refused!(overlap, Error::OverlappingRanges { element: 4, .. }), &["\"a\"", "\"b\"", "4"]);
    for shape in [&[MAX_ELEMENTS as usize + 1][..], &[usize::MAX, 3], &[1 << 40, 1 << 40]] {
        let large = Layout::builder().tensor("w", shape).packed().build();
        assert_says(&refused!(large, Error::LayoutTooLarge { .. }), &["several optimizers"]);
    }
    assert_eq!(Layout::flat(MAX_ELEMENTS as usize).unwrap().len() as u64, MAX_ELEMENTS);
}

#[test]
fn hyperparameters_out_of_range_are_refused_by_both_engines() {
    let nan = f64::NAN;
    let mut bad: Vec<(&str, OptimizerBuilder)> = Vec::new();
    for lr in [-1e-3, nan, f64::INFINITY, 1e39] {
        bad.push(("lr", Optimizer::builder(Sgd::default().with_lr(lr))));
        bad.push(("lr", Optimizer::builder(AdamW::default().with_lr(lr))));
        bad.push(("lr", Optimizer::builder(Sgd::default()).schedule(Schedule::constant(lr))));
        bad.push(("lr", Optimizer::builder(Sgd::default()).schedule(Schedule::warmup_cosine(lr, 1, 2))));
    }
    // 0.99999999 is 1 in f32.
    for beta in [1.0, 1.5, -0.1, nan, 0.999_999_99] {
        bad.push(("betas.0", Optimizer::builder(Adam::default().with_betas((beta, 0.9)))));
        bad.push(("betas.1", Optimizer::builder(AdamW::default().with_betas((0.9, beta)))));
        bad.push(("betas.0", Optimizer::builder(Adamax::default().with_betas((beta, 0.9)))));
        bad.push(("betas.1", Optimizer::builder(Adamax::default().with_betas((0.9, beta)))));
        bad.push(("betas.0", Optimizer::builder(Lion::default().with_betas((beta, 0.9)))));
        bad.push(("betas.1", Optimizer::builder(Lion::default().with_betas((0.9, beta)))));
        bad.push(("betas.1", Optimizer::builder(Sophia::default().with_betas((0.9, beta)))));
        bad.push(("betas.0", Optimizer::builder(NAdam::default().with_betas((beta, 0.9)))));
    }
    bad.extend(bad_adaptive());
    bad.extend(bad_tensor_norms());
    for value in [-1.0, nan, f64::INFINITY] {
        bad.push(("eps", Optimizer::builder(Adam::default().with_eps(value))));
        bad.push(("eps_root", Optimizer::builder(Adam::default().with_eps_root(value))));
        bad.push(("max_lr", Optimizer::builder(AdamW::default().with_max_lr(Some(value)))));
        bad.push(("alpha", Optimizer::builder(RmsProp::default().with_alpha(value))));
        bad.push(("eps", Optimizer::builder(RmsProp::default().with_eps(value))));
        bad.push(("momentum", Optimizer::builder(RmsProp::default().with_momentum(value))));
        bad.push(("rho", Optimizer::builder(Adadelta::default().with_rho(value))));
        bad.push(("eps", Optimizer::builder(Adadelta::default().with_eps(value))));
        bad.push(("eps", Optimizer::builder(Adamax::default().with_eps(value))));
        bad.push(("lr_decay", Optimizer::builder(Adagrad::default().with_lr_decay(value))));
        let adagrad = Adagrad::default().with_initial_accumulator_value(value);
        bad.push(("initial_accumulator_value", Optimizer::builder(adagrad)));
        bad.push(("eps", Optimizer::builder(Adagrad::default().with_eps(value))));
        bad.push(("weight_decay", Optimizer::builder(AdamW::default().with_weight_decay(value))));
        bad.push(("momentum", Optimizer::builder(Sgd::default().with_momentum(value))));
        let sgd = Optimizer::builder(Sgd::default());
        bad.push(("lr_scale", sgd.clone().group("g", GroupOptions::default().with_lr_scale(value))));
        bad.push(("weight_decay", sgd.group("g", GroupOptions::default().with_weight_decay(value))));
    }
    for etas in [(0.0, 1.2), (1.0, 1.2), (nan, 1.2), (0.5, 1.0), (0.5, nan), (0.5, f64::INFINITY)] {
        bad.push(("etas", Optimizer::builder(Rprop::default().with_etas(etas))));
    }
    for step_sizes in [(-1.0, 50.0), (nan, 50.0), (2.0, 1.0), (0.0, nan), (0.0, f64::INFINITY)] {
        bad.push(("step_sizes", Optimizer::builder(Rprop::default().with_step_sizes(step_sizes))));
    }
    bad.push(("alpha", Optimizer::builder(RmsProp::default().with_alpha(1.1))));
    bad.push(("rho", Optimizer::builder(Adadelta::default().with_rho(1.1))));
    for momentum_decay in [-1e-3, 1e-7, nan, f64::INFINITY] {
        bad.push(("momentum_decay", Optimizer::builder(NAdam::default().with_momentum_decay(momentum_decay))));
    }
    bad.push(("max_lr", Optimizer::builder(AdamW::default().with_max_lr(Some(0.0)))));
    bad.push(("eps_root", Optimizer::builder(AdamW::keras().with_eps_root(1e-8))));
    bad.push(("corrected_max", Optimizer::builder(Adam::keras().with_amsgrad(true).with_corrected_max(true))));
    bad.push(("eps", Optimizer::builder(NAdam::default().with_eps(-1.0))));
    bad.push(("eps_root", Optimizer::builder(NAdam::default().with_eps_root(nan))));
    bad.push(("cautious_weight_decay", Optimizer::builder(NAdam::default().with_cautious_weight_decay(true))));
    bad.push(("eps_root", Optimizer::builder(RAdam::optax().with_eps_root(-1.0))));
    bad.push(("eps_root", Optimizer::builder(RAdam::torch().with_eps_root(1e-8))));
    bad.push(("momentum", Optimizer::builder(Sgd::default().with_cautious(true))));
    for power in [-1.0, 0.5, 17.0, nan, f64::INFINITY] {
        bad.push(("r", Optimizer::builder(ScheduleFreeSgd::default().with_r(power))));
        bad.push(("weight_lr_power", Optimizer::builder(ScheduleFreeAdamW::default().with_weight_lr_power(power))));
    }
    for momentum in [0.0, 1.0, -0.5, 1e-40, nan] {
        bad.push(("momentum", Optimizer::builder(ScheduleFreeSgd::default().with_momentum(momentum))));
        bad.push(("betas.0", Optimizer::builder(ScheduleFreeAdamW::default().with_betas((momentum, 0.9)))));
    }
    bad.push(("eps", Optimizer::builder(ScheduleFreeAdamW::default().with_eps(-1.0))));
    bad.push(("bet", Optimizer::builder(ScheduleFreeAdamW::default().with_betas((0.9, 1.0)))));
    for value in [-1.0, nan, f64::INFINITY] {
        let sophia = |curvature| Optimizer::builder(Sophia::default().with_curvature(curvature));
        bad.push(("rho", sophia(Curvature::SampledLabels { rho: value, bs: 1.0 })));
        bad.push(("bs", sophia(Curvature::SampledLabels { rho: 1.0, bs: value })));
        bad.push(("gamma", sophia(Curvature::Hutchinson { gamma: value, eps: 1.0 })));
        // 1e-40 may be flushed to zero.
        for eps in [value, 0.0, 1e-40] {
            bad.push(("eps", sophia(Curvature::Hutchinson { gamma: 1.0, eps })));
        }
    }
    bad.push(("dampening", Optimizer::builder(Sgd::default().with_momentum(0.9).with_dampening(nan))));
    bad.push(("momentum", Optimizer::builder(Sgd::default().with_nesterov(true))));
    let sgd = Optimizer::builder(Sgd::default());
    bad.push(("total_steps", sgd.clone().schedule(Schedule::warmup_cosine(1.0, 0, 0))));
    bad.push(("total_steps", sgd.clone().schedule(Schedule::warmup_cosine(1.0, 10, 9))));
    bad.push(("min_lr", sgd.schedule(Schedule::warmup_cosine(1.0, 1, 9).with_min_lr(2.0))));
    bad.push(("max_consecutive_skips", Optimizer::builder(Sgd::default()).max_consecutive_skips(0)));
    assert_refused(&bad);
}

#[test]
fn clipping_out_of_range_is_refused_by_both_engines() {
    let nan = f64::NAN;
    let mut bad: Vec<(&str, Clip)> = Vec::new();
    // 1e-50 is 0 in f32.
    for max_norm in [0.0, -1.0, nan, 1e-50] {
        bad.push(("max_norm", Clip::global_norm(max_norm)));
    }
    for value in [0.0, -1.0, nan, f64::INFINITY, 1e-50] {
        bad.push(("clip_value", Clip::value(value)));
    }
    for value in [-1.0, 100.5, nan] {
        bad.push(("percentile", Clip::percentile(value)));
    }
    for value in [0, 4097] {
        bad.push(("window", Percentile::new(10.0).with_window(value).into()));
    }
    for value in [0.5, nan, 33.0, -f64::INFINITY] {
        bad.push(("norm_type", GlobalNorm::new(1.0).with_norm_type(value).into()));
    }
    for value in [0.0, -1.0, nan, f64::INFINITY] {
        bad.push(("max_norm", Clip::group_norm(value)));
        bad.push(("clip_factor", Clip::adaptive(value)));
        bad.push(("eps", Adaptive::new(0.01).with_eps(value).into()));
    }
    let builder = Optimizer::builder(Sgd::default());
    let bad: Vec<_> = bad.into_iter().map(|(name, clip)| (name, builder.clone().clip(clip))).collect();
    assert_refused(&bad);
}

/// Neither engine builds any of these, and says which hyperparameter is to blame.
fn assert_refused(bad: &[(&str, OptimizerBuilder)]) {
    let (device, queue) = noop(|_| {});
    let layout = Layout::builder().tensor("w", &[4]).group("g").build().unwrap();
    for (name, builder) in bad {
        for message in [
            refused!(builder.clone().build(&device, &queue, &layout), Error::Hyperparameter { .. }),
            refused!(builder.clone().build_cpu(&layout), Error::Hyperparameter { .. }),
        ] {
            assert_says(&message, &[name, "allowed"]);
        }
    }
}

/// A group is known even if its range holds no element, or only padding.
#[test]
fn groups_without_elements_are_groups() {
    let layout = Layout::builder().tensor("w", &[4]).range(3..3, "empty").range(40..50, "padding").build().unwrap();
    let options = GroupOptions::default().with_lr_scale(2.0);
    let builder = Optimizer::builder(Sgd::default()).group("empty", options.clone()).group("padding", options);
    builder.build_cpu(&layout).unwrap();
}

fn bad_tensor_norms() -> Vec<(&'static str, OptimizerBuilder)> {
    let mut bad = Vec::new();
    for beta in [1.0, 1.5, -0.1, f64::NAN, 0.999_999_99] {
        bad.push(("bet", Optimizer::builder(Lamb::default().with_betas((beta, 0.9)))));
        bad.push(("bet", Optimizer::builder(Lamb::default().with_betas((0.9, beta)))));
        bad.push(("betas.0", Optimizer::builder(NovoGrad::default().with_betas((beta, 0.9)))));
        bad.push(("betas.1", Optimizer::builder(NovoGrad::default().with_betas((0.9, beta)))));
        bad.push(("betas.0", Optimizer::builder(Prodigy::default().with_betas((beta, 0.9)))));
        bad.push(("betas.1", Optimizer::builder(Prodigy::default().with_betas((0.9, beta)))));
        bad.push(("beta3", Optimizer::builder(Prodigy::default().with_beta3(Some(beta)))));
        bad.push(("betas.0", Optimizer::builder(StableAdamW::default().with_betas((beta, 0.9)))));
        bad.push(("betas.1", Optimizer::builder(StableAdamW::default().with_betas((0.9, beta)))));
    }
    for value in [-1.0, f64::NAN, f64::INFINITY] {
        bad.push(("momentum", Optimizer::builder(Lars::default().with_momentum(value))));
        bad.push(("trust_coefficient", Optimizer::builder(Lars::default().with_trust_coefficient(value))));
        bad.push(("eps", Optimizer::builder(Lars::optax().with_eps(value))));
        bad.push(("eps", Optimizer::builder(Lamb::default().with_eps(value))));
        bad.push(("eps", Optimizer::builder(NovoGrad::default().with_eps(value))));
        bad.push(("eps", Optimizer::builder(StableAdamW::default().with_eps(value))));
        bad.push(("ratio_range.1", Optimizer::builder(Lamb::default().with_ratio_range(Some((0.0, value))))));
    }
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-40] {
        bad.push(("d0", Optimizer::builder(Prodigy::default().with_d0(value))));
        bad.push(("d_coef", Optimizer::builder(Prodigy::default().with_d_coef(value))));
        bad.push(("eps", Optimizer::builder(Prodigy::default().with_eps(value))));
        bad.push(("growth_rate", Optimizer::builder(Prodigy::default().with_growth_rate(Some(value)))));
    }
    for power in [0.1, -2.1, f64::NAN] {
        bad.push(("beta2_decay", Optimizer::builder(Adafactor::default().with_beta2_decay(power))));
    }
    for eps1 in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-40] {
        bad.push(("eps.0", Optimizer::builder(Adafactor::default().with_eps((Some(eps1), 1e-3)))));
    }
    bad.push(("eps.1", Optimizer::builder(Adafactor::default().with_eps((None, -1.0)))));
    for d in [0.9, f64::NAN, f64::INFINITY] {
        bad.push(("d", Optimizer::builder(Adafactor::default().with_d(d))));
    }
    // Multiplied by d0 it is 1e-41.
    bad.push(("eps", Optimizer::builder(Prodigy::default().with_eps(1e-35))));
    bad.push(("growth_rate", Optimizer::builder(Prodigy::default().with_growth_rate(Some(0.99)))));
    bad.push(("ratio_range.0", Optimizer::builder(Lamb::default().with_ratio_range(Some((-1.0, 2.0))))));
    bad.push(("ratio_range.1", Optimizer::builder(Lamb::default().with_ratio_range(Some((2.0, 1.0))))));
    bad.push(("dampening", Optimizer::builder(Lars::default().with_dampening(f64::NAN))));
    bad.push(("dampening", Optimizer::builder(Lars::optax().with_dampening(0.5))));
    bad.push(("momentum", Optimizer::builder(Lars::default().with_nesterov(true))));
    let dampened = Lars::default().with_momentum(0.9).with_nesterov(true).with_dampening(0.1);
    bad.push(("dampening", Optimizer::builder(dampened)));
    bad
}

fn bad_adaptive() -> Vec<(&'static str, OptimizerBuilder)> {
    let mut bad = Vec::new();
    for beta in [1.0, 1.5, -0.1, f64::NAN, 0.999_999_99] {
        bad.push(("bet", Optimizer::builder(RAdam::default().with_betas((beta, 0.9)))));
        bad.push(("bet", Optimizer::builder(RAdam::default().with_betas((0.9, beta)))));
        bad.push(("bet", Optimizer::builder(AdaBelief::default().with_betas((beta, 0.9)))));
        bad.push(("bet", Optimizer::builder(Yogi::default().with_betas((0.9, beta)))));
        bad.push(("bet", Optimizer::builder(Adan::default().with_betas((0.9, 0.9, beta)))));
        bad.push(("momentum", Optimizer::builder(SignSgd::default().with_momentum(beta))));
        bad.push(("betas.2", Optimizer::builder(AdEMAMix::default().with_betas((0.9, 0.9, beta)))));
    }
    for value in [-1.0, f64::NAN, f64::INFINITY] {
        bad.push(("eps", Optimizer::builder(RAdam::default().with_eps(value))));
        bad.push(("eps", Optimizer::builder(AdaBelief::default().with_eps(value))));
        bad.push(("eps_root", Optimizer::builder(AdaBelief::default().with_eps_root(value))));
        bad.push(("eps", Optimizer::builder(Yogi::default().with_eps(value))));
        let initial = Yogi::default().with_initial_accumulator_value(value);
        bad.push(("initial_accumulator_value", Optimizer::builder(initial)));
        bad.push(("eps", Optimizer::builder(Adan::default().with_eps(value))));
        bad.push(("eps_root", Optimizer::builder(Adan::default().with_eps_root(value))));
        bad.push(("weight_decay", Optimizer::builder(SignSgd::default().with_weight_decay(value))));
        bad.push(("eps", Optimizer::builder(AdEMAMix::default().with_eps(value))));
        bad.push(("alpha", Optimizer::builder(AdEMAMix::default().with_alpha(value))));
    }
    for steps in [0, (1 << 24) + 1] {
        bad.push(("t_alpha", Optimizer::builder(AdEMAMix::default().with_t_alpha(Some(steps)))));
        bad.push(("t_beta3", Optimizer::builder(AdEMAMix::default().with_t_beta3(Some(steps)))));
    }
    let warm = AdEMAMix::default().with_t_beta3(Some(10));
    bad.push(("betas.0", Optimizer::builder(warm.clone().with_betas((0.4, 0.9, 0.999)))));
    bad.push(("betas.2", Optimizer::builder(warm.with_betas((0.9, 0.9, 0.8)))));
    bad
}

#[test]
fn auxiliary_updates_of_other_rules_are_refused() {
    let gpu = noop_gpu();
    let layout = Layout::flat(4).unwrap();
    let [params, estimate] = [0; 2].map(|_| storage(&gpu, 16, BufferUsages::STORAGE));
    let mut optimizer = Optimizer::builder(Adam::default()).build(&gpu.device, &gpu.queue, &layout).unwrap();
    let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
    let result = optimizer.update_hessian(&mut encoder, &params, &estimate);
    assert_says(&refused!(result, Error::UnknownAuxiliaryUpdate { .. }), &["\"adam\"", "update_hessian", "none"]);
    let mut optimizer = Optimizer::builder(Adam::default()).build_cpu(&layout).unwrap();
    refused!(optimizer.update_hessian(&mut [0.0; 4], &[0.0; 4]), Error::UnknownAuxiliaryUpdate { .. });
    refused!(optimizer.eval(&mut [0.0; 4]), Error::UnknownAuxiliaryUpdate { .. });
    refused!(optimizer.train(&mut [0.0; 4]), Error::UnknownAuxiliaryUpdate { .. });
}

#[test]
fn evaluation_needs_parameters_that_can_be_copied() {
    let gpu = noop_gpu();
    let params = storage(&gpu, 16, BufferUsages::STORAGE);
    let builder = Optimizer::builder(ScheduleFreeSgd::default());
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, &Layout::flat(4).unwrap()).unwrap();
    let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
    for result in [optimizer.eval(&mut encoder, &params), optimizer.train(&mut encoder, &params)] {
        let message = refused!(result, Error::MissingUsage { missing: BufferUsages::COPY_SRC, .. });
        assert_says(&message, &["params", "COPY_SRC", "training parameters"]);
    }
    // It was refused, so that the mode has not changed.
    optimizer.step(&mut encoder, &params, &storage(&gpu, 16, BufferUsages::STORAGE)).unwrap();
}

#[test]
fn unknown_groups_are_refused_with_those_that_exist() {
    let layout = Layout::builder().tensor("w", &[4]).group("no_decay").tensor("x", &[4]).group("slow").build().unwrap();
    let builder = Optimizer::builder(Sgd::default()).group("nodecay", GroupOptions::default());
    let message = refused!(builder.build_cpu(&layout), Error::UnknownGroup { .. });
    assert_says(&message, &["\"nodecay\"", "no_decay, slow"]);
}

#[test]
fn a_useless_gradient_scale_is_refused() {
    let (device, queue) = noop(|_| {});
    let layout = Layout::flat(4).unwrap();
    let mut gpu = Optimizer::builder(Sgd::default()).build(&device, &queue, &layout).unwrap();
    let mut cpu = Optimizer::builder(Sgd::default()).build_cpu(&layout).unwrap();
    // 5e-39 is subnormal, and its inverse is normal.
    for scale in [0.0, -2.0, f32::NAN, f32::INFINITY, 1e-40, 5e-39, 8.6e37, f32::MAX] {
        for message in [
            refused!(gpu.set_grad_scale(scale), Error::Hyperparameter { .. }),
            refused!(cpu.set_grad_scale(scale), Error::Hyperparameter { .. }),
        ] {
            assert_says(&message, &["1.2e-38 to 8.5e37", "positive and normal in f32, with a normal inverse"]);
        }
    }
    for scale in [f32::MIN_POSITIVE, 8.5e37] {
        gpu.set_grad_scale(scale).unwrap();
        cpu.set_grad_scale(scale).unwrap();
    }
    let gpu_of = |usage, size| {
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    refused!(gpu.set_grad_scale(&gpu_of(BufferUsages::UNIFORM, 4)), Error::MissingUsage { .. });
    refused!(gpu.set_grad_scale(&gpu_of(BufferUsages::STORAGE, 0)), Error::GradScaleTooSmall { actual: 0 });
}

#[test]
fn slices_of_the_wrong_length_are_refused_on_the_cpu() {
    let mut optimizer = Optimizer::builder(Sgd::default()).build_cpu(&Layout::flat(4).unwrap()).unwrap();
    let mut params = [1.0; 4];
    let message = refused!(optimizer.step(&mut params, &[1.0; 3]), Error::LengthMismatch { .. });
    assert_says(&message, &["grads", "3", "4"]);
    refused!(optimizer.step(&mut params[..3], &[1.0; 4]), Error::LengthMismatch { .. });
    assert_eq!((params, optimizer.stats().step), ([1.0; 4], 0));
}

/// A step that must be refused, and must leave the next one as if it had not been called.
fn refuse_step<'a>(
    gpu: &Gpu,
    len: usize,
    clip: bool,
    params: impl Into<BufferSlices<'a>>,
    grads: impl Into<BufferSlices<'a>>,
) -> Error {
    let builder = Optimizer::builder(Sgd::default()).schedule(Schedule::warmup_cosine(1.0, 4, 9));
    let builder = if clip { builder.clip(Clip::global_norm(1.0)) } else { builder };
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, &Layout::flat(len).unwrap()).unwrap();
    let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
    let error = optimizer.step(&mut encoder, params, grads).expect_err("it must be refused");
    assert_eq!(optimizer.lr().expect("a rate"), 0.0, "a refused step counts for the schedule");
    error
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let gpu = noop_gpu();
    let make = |elements: u64, usage| storage(&gpu, elements * 4, usage);
    let good = BufferUsages::STORAGE;
    let (params, grads) = (make(10, good), make(10, good));

    let error = refuse_step(&gpu, 10, false, &params, &make(9, good));
    assert!(matches!(error, Error::LengthMismatch { what: "grads", expected: 10, actual: 9, .. }), "{error:?}");
    let error = refuse_step(&gpu, 10, false, &make(16, good), &grads);
    assert!(matches!(error, Error::LengthMismatch { what: "params", expected: 10, actual: 16, .. }), "{error:?}");
    let error = refuse_step(&gpu, 10, false, &[params.slice(..20), params.slice(20..36)], &grads);
    assert!(matches!(error, Error::LengthMismatch { actual: 9, .. }), "{error:?}");
    let error = refuse_step(&gpu, 10, false, BufferSlices::Slices(&[]), &grads);
    assert!(matches!(error, Error::LengthMismatch { actual: 0, .. }), "{error:?}");

    let error = refuse_step(&gpu, 10, false, &params, &make(10, BufferUsages::UNIFORM));
    assert!(matches!(error, Error::MissingUsage { what: "grads", missing: BufferUsages::STORAGE, .. }), "{error:?}");
    assert_says(&error.to_string(), &["grads", "STORAGE", "BufferDescriptor::usage"]);

    let large = make(20, good);
    let error = refuse_step(&gpu, 10, false, large.slice(2..42), &grads);
    assert!(matches!(error, Error::MisalignedSlice { slice: 0, offset: 2, end: 42, .. }), "{error:?}");
    let error = refuse_step(&gpu, 10, false, &[large.slice(..20), large.slice(16..36)], &grads);
    assert!(matches!(error, Error::OverlappingSlices { what: "params", first: 0, second: 1 }), "{error:?}");

    let error = refuse_step(&gpu, 10, false, &params, &params);
    assert!(matches!(error, Error::AliasedSlices { params: 0, grads: 0 }), "{error:?}");
    // Of gradients that overlap each other, the first reaches into the parameters behind the second.
    let nested = [large.slice(..32), large.slice(..8)];
    let error = refuse_step(&gpu, 10, false, &[large.slice(48..72), large.slice(16..32)], &nested);
    assert!(matches!(error, Error::AliasedSlices { params: 1, grads: 0 }), "{error:?}");
    let overlapping = [large.slice(40..72), large.slice(32..40)];
    for (params, grads, at) in
        [(&[large.slice(..40)][..], &overlapping[..], [0, 1]), (&overlapping, &[large.slice(..40)], [1, 0])]
    {
        let error = refuse_step(&gpu, 10, false, params, grads);
        let found = matches!(error, Error::AliasedSlices { params, grads } if [params, grads] == at);
        assert!(found, "{error:?}");
        assert_says(&error.to_string(), &["slice 0", "slice 1", "params", "grads", "own"]);
    }

    let odd = storage(&gpu, 42, good);
    let error = refuse_step(&gpu, 10, false, &odd, &grads);
    assert!(matches!(error, Error::MisalignedSlice { end: 42, .. }), "{error:?}");

    let rule = Sgd::default().with_momentum(0.9);
    let mut optimizer = Optimizer::builder(rule).build(&gpu.device, &gpu.queue, &Layout::flat(10).unwrap()).unwrap();
    let state = optimizer.state("momentum_buffer").unwrap()[0].buffer().clone();
    let state = state.slice(..40);
    let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
    for (params, grads) in [(params.slice(..), state), (state, grads.slice(..))] {
        let error = optimizer.step(&mut encoder, params, grads).unwrap_err();
        assert!(matches!(error, Error::AliasedBuffers { second: "a state of the optimizer", .. }), "{error:?}");
    }
}

/// Where bindings of parameters and gradients would overlap, one holds both: it may exceed the device's limit.
#[test]
fn one_binding_for_both_must_fit_the_device() {
    let (device, queue) = noop(|limits| limits.max_storage_buffer_binding_size = 64 << 10);
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 1 << 17, usage, mapped_at_creation: false };
    let page = device.create_buffer(&descriptor);
    let layout = Layout::flat(8_192).unwrap();
    let mut optimizer = Optimizer::builder(Sgd::default()).build(&device, &queue, &layout).unwrap();
    let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
    let slice = |offset| page.slice(offset..offset + 32_768);
    let error = optimizer.step(&mut encoder, slice(4), slice(32_772)).unwrap_err();
    let limit = Error::DeviceLimit { limit: "max_storage_buffer_binding_size", required: 65_540, available: 65_536 };
    assert_eq!(error.to_string(), limit.to_string());
    // At multiples of the alignment each has a binding of its own.
    optimizer.step(&mut encoder, slice(0), slice(32_768)).unwrap();
}

#[test]
fn cut_norm_blocks_need_gradients_that_can_be_copied() {
    let gpu = noop_gpu();
    let len = 10_000;
    let params = storage(&gpu, 40_000, BufferUsages::STORAGE);
    // Neighbors of one buffer would be joined.
    let [first, second] = [(); 2].map(|()| storage(&gpu, 40_000, BufferUsages::STORAGE));
    let cut = [first.slice(..4_000), second.slice(4_000..)];
    let error = refuse_step(&gpu, len, true, &params, &cut);
    assert!(matches!(error, Error::MissingUsage { missing: BufferUsages::COPY_SRC, .. }), "{error:?}");
    assert_says(&error.to_string(), &["8,192"]);
    // Without the norm, and at a multiple of 8,192, no copy is needed.
    let whole = [first.slice(..4 * 8192), second.slice(4 * 8192..)];
    for (clip, slices) in [(false, cut), (true, whole)] {
        let builder = Optimizer::builder(Sgd::default());
        let builder = if clip { builder.clip(Clip::global_norm(1.0)) } else { builder };
        let mut optimizer = builder.build(&gpu.device, &gpu.queue, &Layout::flat(len).unwrap()).unwrap();
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        optimizer.step(&mut encoder, &params, &slices).unwrap();
        gpu.queue.submit([encoder.finish()]);
    }
}

type Change = fn(&mut wgpu::Limits);

#[test]
fn devices_without_the_needed_limits_are_refused() {
    let layout = Layout::flat(4).unwrap();
    let limits: [(&str, Change); 8] = [
        ("max_storage_buffers_per_shader_stage", |limits| limits.max_storage_buffers_per_shader_stage = 3),
        ("max_compute_invocations_per_workgroup", |limits| limits.max_compute_invocations_per_workgroup = 128),
        ("max_compute_workgroup_size_x", |limits| limits.max_compute_workgroup_size_x = 128),
        ("max_compute_workgroup_storage_size", |limits| limits.max_compute_workgroup_storage_size = 1024),
        ("max_compute_workgroups_per_dimension", |limits| limits.max_compute_workgroups_per_dimension = 2),
        ("max_storage_buffer_binding_size", |limits| limits.max_storage_buffer_binding_size = 16 << 10),
        // The powers of the betas exceed this binding, and the buffer of uniforms the next limit.
        ("max_uniform_buffer_binding_size", |limits| limits.max_uniform_buffer_binding_size = 2 << 10),
        ("max_buffer_size", |limits| limits.max_buffer_size = 256 << 10),
    ];
    for (name, change) in limits {
        let (device, queue) = noop(change);
        let builder =
            Optimizer::builder(AdamW::default()).on_nonfinite(NonFinite::Skip).schedule(OneCycle::new(0.1, 10));
        let message = refused!(builder.build(&device, &queue, &layout), Error::DeviceLimit { .. });
        assert_says(&message, &[name, "required_limits"]);
    }
}

/// Builds, prepares and records two steps and the auxiliary updates on a device of wgpu's that panics where it refuses.
fn record_all(builder: OptimizerBuilder, layout: &Layout, change: impl FnOnce(&mut wgpu::Limits)) -> Result<(), Error> {
    let (device, queue) = noop(change);
    let mut optimizer = builder.build(&device, &queue, layout)?;
    let buffer = || {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let size = 4 * layout.len() as u64;
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let (params, grads) = (buffer(), buffer());
    let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
    let mut recorded = || {
        optimizer.prepare(&params, &grads)?;
        optimizer.step(&mut encoder, &params, &grads)?;
        optimizer.step(&mut encoder, &params, &grads)?;
        let result = optimizer.update_hessian(&mut encoder, &params, &grads);
        assert!(matches!(result, Ok(()) | Err(Error::UnknownAuxiliaryUpdate { .. })), "{result:?}");
        let result = optimizer.eval(&mut encoder, &params);
        assert!(matches!(result, Ok(()) | Err(Error::UnknownAuxiliaryUpdate { .. })), "{result:?}");
        Ok(())
    };
    let result = recorded();
    queue.submit([encoder.finish()]);
    result
}

/// Limits of 1, each raised to what the error says, until the optimizer builds. All kinds of steps then run.
#[test]
fn the_limits_that_errors_name_suffice() {
    type Set = fn(&mut wgpu::Limits, u32);
    let limits: [(&str, Set); 8] = [
        ("max_bind_groups", |limits, value| limits.max_bind_groups = value),
        ("max_bindings_per_bind_group", |limits, value| limits.max_bindings_per_bind_group = value),
        ("max_dynamic_uniform_buffers_per_pipeline_layout", |limits, value| {
            limits.max_dynamic_uniform_buffers_per_pipeline_layout = value;
        }),
        ("max_uniform_buffers_per_shader_stage", |limits, value| limits.max_uniform_buffers_per_shader_stage = value),
        ("max_storage_buffers_per_shader_stage", |limits, value| limits.max_storage_buffers_per_shader_stage = value),
        ("max_compute_invocations_per_workgroup", |limits, value| limits.max_compute_invocations_per_workgroup = value),
        ("max_compute_workgroup_size_x", |limits, value| limits.max_compute_workgroup_size_x = value),
        ("max_compute_workgroup_storage_size", |limits, value| limits.max_compute_workgroup_storage_size = value),
    ];
    let layout = Layout::builder().tensor("w", &[40, 30]).tensor("b", &[9]).group("b").build().unwrap();
    let norms = HistoryOptions::steps(2).with_norms_every(1);
    // Together they run every pass; one-cycle binds the powers of the betas anew for each step.
    let one_cycle = Optimizer::builder(AdamW::default()).schedule(OneCycle::new(0.1, 10));
    for builder in [
        one_cycle.clip(Adaptive::new(0.1)),
        Optimizer::builder(Sophia::default()).clip(Clip::percentile(10.0)).history(norms.clone().per_group()),
        Optimizer::builder(ScheduleFreeSgd::default()),
        Optimizer::builder(Adafactor::default()).clip(Clip::global_norm(1.0)).history(norms),
    ] {
        let mut values = [1; 8];
        let set_all = |values: [u32; 8]| {
            move |of_device: &mut wgpu::Limits| {
                limits.iter().zip(values).for_each(|((_, set), value)| set(of_device, value));
            }
        };
        while let Err(error) = record_all(builder.clone(), &layout, set_all(values)) {
            let Error::DeviceLimit { limit, required, available } = error else { panic!("{error}") };
            let raised = limits.iter().position(|(name, _)| *name == limit).expect(limit);
            assert_eq!(available, u64::from(values[raised]), "{limit}");
            assert!(values[raised] == 1 && required > 1, "{limit}: raised twice");
            values[raised] = required as u32;
        }
        assert_eq!([values[0], values[2]], [2, 2], "the uniforms of the step");
    }
}

/// A pass over segments has a workgroup for each, however few elements they have.
#[test]
fn grids_that_exceed_the_limit_are_refused() {
    let tensor = |layout: LayoutBuilder, i| layout.tensor(format!("{i}"), &[2, 2]).group(format!("{i}"));
    let layout = (0..40).fold(Layout::builder(), tensor).build().unwrap();
    let norms = HistoryOptions::steps(2).with_norms_every(1).per_group();
    let sgd = Optimizer::builder(Sgd::default());
    for (builder, needed) in [
        (sgd.clone(), 3),
        (sgd.clone().clip(Clip::group_norm(1.0)), 7),
        // Two rows of each tensor.
        (sgd.clone().clip(Adaptive::new(0.1)), 9),
        (sgd.history(norms), 7),
        (Optimizer::builder(Lamb::default()), 7),
        (Optimizer::builder(Adafactor::default()), 7),
    ] {
        let record = |workgroups| {
            record_all(builder.clone(), &layout, |limits| limits.max_compute_workgroups_per_dimension = workgroups)
        };
        for workgroups in [2, 3, needed - 1].into_iter().filter(|&workgroups| workgroups < needed) {
            let Err(Error::DeviceLimit { limit, required, available }) = record(workgroups) else {
                panic!("{workgroups} of {needed} workgroups")
            };
            assert_eq!((limit, available), ("max_compute_workgroups_per_dimension", workgroups.into()));
            assert_eq!(required, if workgroups == 2 { 3 } else { needed.into() });
        }
        record(needed).unwrap();
    }
}

/// The uniforms of all chunks are one buffer.
#[test]
fn more_chunks_than_the_largest_buffer_describes_are_refused() {
    // A buffer holds one tile, and its uniforms take 256 bytes.
    let max_buffer_size = 36 << 10;
    let (device, queue) = noop(|limits| limits.max_buffer_size = max_buffer_size);
    for (tiles, fits) in [(max_buffer_size as usize / 256, true), (max_buffer_size as usize / 256 + 1, false)] {
        let layout = Layout::flat(tiles * 8192).unwrap();
        let mut optimizer = Optimizer::builder(Sgd::default()).build(&device, &queue, &layout).unwrap();
        let buffer = |_| {
            let (size, usage) = (4 * 8192, BufferUsages::STORAGE);
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let [params, grads] = [(); 2].map(|()| (0..tiles).map(buffer).collect::<Vec<_>>());
        let [params, grads] =
            [&params, &grads].map(|buffers| buffers.iter().map(|buffer| buffer.slice(..)).collect::<Vec<_>>());
        let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
        let result = optimizer.step(&mut encoder, &params, &grads);
        queue.submit([encoder.finish()]);
        match result {
            Ok(()) => assert!(fits),
            Err(error) => {
                assert!(!fits && matches!(error, Error::DeviceLimit { limit: "max_buffer_size", .. }), "{error}");
            }
        }
    }
}

/// wgpu's default limits hold every built-in rule; a rule with more states says what it needs.
#[test]
fn the_default_limits_hold_every_rule() {
    let (device, queue) = noop(|_| {});
    let layout = Layout::flat(4).unwrap();
    let builder = Optimizer::builder(AdamW::default().with_amsgrad(true)).clip(Clip::global_norm(1.0));
    assert_eq!(builder.build(&device, &queue, &layout).unwrap().state_names().len(), 3);
    let builder = Optimizer::builder(Prodigy::default());
    assert_eq!(builder.build(&device, &queue, &layout).unwrap().state_names().len(), 4);
    let builder = Optimizer::builder(Adafactor::default());
    assert_eq!(builder.build(&device, &queue, &layout).unwrap().state_names().len(), 3);
    for name in RuleConfig::NAMES {
        let optimizer = rule(name).clip(Clip::global_norm(1.0)).build(&device, &queue, &layout);
        assert!(optimizer.is_ok(), "{name}: {optimizer:?}");
    }
}

/// The factors of all tensors are one binding: a vector has as many as elements, and as many sums.
#[test]
fn factors_that_do_not_fit_a_binding_are_refused() {
    let (device, queue) = noop(|limits| limits.max_storage_buffer_binding_size = 128 << 10);
    for (shape, fits) in [(&[16_300][..], true), (&[16_400], false), (&[128, 128], true)] {
        let layout = Layout::builder().tensor("w", shape).build().unwrap();
        let result = Optimizer::builder(Adafactor::default()).build(&device, &queue, &layout);
        assert_eq!(result.is_ok(), fits, "{shape:?}");
        if !fits {
            assert_says(&refused!(result, Error::DeviceLimit { .. }), &["max_storage_buffer_binding_size"]);
        }
    }
}

fn noop_gpu() -> Gpu {
    // The adapter is never looked at; what counts is the device.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::NOOP,
        backend_options: wgpu::BackendOptions {
            noop: wgpu::NoopBackendOptions { enable: true, ..Default::default() },
            ..Default::default()
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
    let (device, queue) = noop(|_| {});
    Gpu::from_parts(instance, adapter, device, queue)
}

#[test]
fn a_rule_with_sums_is_not_clipped_by_norms_of_segments() {
    let (device, queue) = noop(|_| {});
    let layout = Layout::flat(8).unwrap();
    for clip in [Clip::group_norm(1.0), Clip::adaptive(0.01)] {
        let builder = Optimizer::builder(Lamb::default()).clip(clip);
        for message in [
            refused!(builder.clone().build(&device, &queue, &layout), Error::Unsupported { .. }),
            refused!(builder.build_cpu(&layout), Error::Unsupported { .. }),
        ] {
            assert_says(&message, &["lamb", "global norm"]);
        }
    }
}

/// The part of the next test that looks for an adapter: the environment is the process's.
#[test]
#[ignore = "runs in a process of its own"]
fn adapters_of_the_environment() {
    match pollster::block_on(Gpu::new()) {
        Ok(gpu) => println!("found {}", gpu.describe()),
        Err(error) => println!("refused {error}"),
    }
}

#[test]
fn a_name_that_excludes_all_adapters_is_blamed() {
    let look = |name: &str| {
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "errors::adapters_of_the_environment", "--ignored", "--nocapture"]);
        let output = test.env("WGPU_ADAPTER_NAME", name).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let message = look("no such adapter");
    assert_says(&message, &["refused", "WGPU_ADAPTER_NAME", "no such adapter", &device::gpu().adapter.get_info().name]);
    assert_says(&look(&device::gpu().adapter.get_info().name), &["found"]);
}
