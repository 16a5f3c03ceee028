//! Groups, gradients that are missing or accumulated, averages, statistics.

use burn::backend::wgpu::WgpuSetup;
use burn::module::{Module, Param, ParamGroup};
use burn::nn::{BatchNormConfig, LinearConfig};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::prelude::*;
use burn::tensor::{DType, FloatDType};
use wgpu_optim_burn::wgpu_optim::{
    self, Adam, AdamW, Clip, Dtype, Ema, GradScaler, GroupOptions, Precision, Schedule, Sgd, wgpu,
};
use wgpu_optim_burn::{Error, FusedOptimizer, ParameterFilter};

use crate::burn_optim::host_grads;
use crate::common::{Classifier, Pair, builder, device, difference, fused, numbers, param, setup, values};

fn poll() {
    setup().device.poll(wgpu::PollType::wait_indefinitely()).expect("a device");
}

fn norm(grads: &[Vec<f32>]) -> f64 {
    grads.iter().flatten().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn groups_are_chosen_by_pattern_or_by_burns_groups() {
    let frozen = GroupOptions::default().with_lr_scale(0.0);
    let groups: [ParameterFilter; 2] = ["*.bias".into(), ParamGroup::from_predicate("bias").into()];
    for group in groups {
        let mut model = Classifier::new();
        let mut optimizer = fused(Sgd::default()).group(group, frozen.clone()).build(&model, setup()).expect("built");
        let before = model.clone();
        let grads = model.grads(0);
        model = optimizer.step(0.1, model, grads).expect("a step");
        let bias = |model: &Classifier| numbers(model.last.bias.as_ref().expect("a bias").val());
        assert_eq!(bias(&model), bias(&before));
        assert_ne!(numbers(model.last.weight.val()), numbers(before.last.weight.val()));
        assert_ne!(numbers(model.norm.gamma.val()), numbers(before.norm.gamma.val()));
    }
}

#[test]
fn a_group_may_name_any_place_of_a_tied_parameter() {
    let a = param(7, 1.0);
    let mut model = Pair { b: a.clone(), a };
    let options = GroupOptions::default().with_lr_scale(0.0);
    let mut optimizer = fused(Sgd::default()).group("b", options).build(&model, setup()).expect("built");
    let grads = GradientsParams::from_grads(model.a.val().sum().backward(), &model);
    model = optimizer.step(0.1, model, grads).expect("a step");
    assert_eq!(values(&model), [vec![1.0; 7], vec![1.0; 7]]);
}

/// Its path is empty.
#[test]
fn a_parameter_may_be_the_module() {
    let mut model = param(7, 1.0);
    let mut optimizer = fused(Sgd::default()).build(&model, setup()).expect("built");
    let grads = GradientsParams::from_grads(model.val().sum().backward(), &model);
    model = optimizer.step(0.25, model, grads).expect("a step");
    assert_eq!(numbers(model.val()), [0.75; 7]);
}

#[test]
fn of_two_groups_the_last_counts() {
    let mut model = Classifier::new();
    let mut optimizer = fused(Sgd::default())
        .group("*", GroupOptions::default().with_lr_scale(0.0))
        .group("second.*", GroupOptions::default())
        .build(&model, setup())
        .expect("built");
    let before = model.clone();
    let grads = model.grads(0);
    model = optimizer.step(0.1, model, grads).expect("a step");
    assert_eq!(numbers(model.first.weight.val()), numbers(before.first.weight.val()));
    assert_ne!(numbers(model.second.weight.val()), numbers(before.second.weight.val()));
}

#[test]
fn parameters_without_gradients_are_left_alone() {
    let mut model = Classifier::new();
    let settings = builder(AdamW::default()).missing_gradients();
    let mut optimizer = FusedOptimizer::builder(settings).build(&model, setup()).expect("built");
    for step in 0..3 {
        let before = model.clone();
        let mut grads = model.grads(step);
        grads.remove::<2>(model.second.weight.id).expect("a gradient");
        model = optimizer.step(0.01, model, grads).expect("a step");
        assert_eq!(numbers(model.second.weight.val()), numbers(before.second.weight.val()));
        assert_ne!(numbers(model.first.weight.val()), numbers(before.first.weight.val()));
    }
}

#[test]
fn frozen_parameters_are_not_trained() {
    let mut model = Classifier::new();
    model.first = model.first.no_grad();
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    let before = model.clone();
    let grads = model.grads(0);
    model = optimizer.step(0.01, model, grads).expect("a step");
    assert_eq!(numbers(model.first.weight.val()), numbers(before.first.weight.val()));
    assert!(!model.first.weight.is_require_grad());
    assert_ne!(numbers(model.last.weight.val()), numbers(before.last.weight.val()));
    assert!(model.last.weight.is_require_grad());
}

/// Clipped by the norm over all tensors.
#[test]
fn the_global_norm_clips() {
    let mut model = Classifier::new();
    let settings = builder(Sgd::default()).clip(Clip::global_norm(0.01));
    let mut optimizer = FusedOptimizer::builder(settings).build(&model, setup()).expect("built");
    let before = values(&model);
    let grads = model.grads(0);
    let host = host_grads(&model, &grads);
    let norm = norm(&host);
    model = optimizer.step(1.0, model, grads).expect("a step");
    let mut stats = optimizer.stats();
    poll();
    let stats = stats.try_take().expect("polled").expect("statistics");
    assert!((f64::from(stats.grad_norm.expect("a norm")) / norm - 1.0).abs() < 1e-5, "{stats:?}");
    let scale = (0.01 / (norm + 1e-6)) as f32;
    let step = |(p, g): (&Vec<f32>, &Vec<f32>)| p.iter().zip(g).map(|(p, g)| p - scale * g).collect();
    let expected: Vec<Vec<f32>> = before.iter().zip(&host).map(step).collect();
    assert!(difference(&values(&model), &expected) < 1e-6);
}

/// Read once, after several steps.
#[test]
fn the_history_has_the_norm_of_each_step() {
    let mut model = Classifier::new();
    let settings = builder(Sgd::default()).clip(Clip::global_norm(f64::INFINITY)).history(8);
    let mut optimizer = FusedOptimizer::builder(settings).build(&model, setup()).expect("built");
    let mut norms = Vec::new();
    for step in 0..3 {
        let grads = model.grads(step);
        norms.push(norm(&host_grads(&model, &grads)));
        model = optimizer.step(0.1, model, grads).expect("a step");
    }
    let mut history = optimizer.history().expect("kept");
    poll();
    let history = history.try_take().expect("polled").expect("a history");
    assert_eq!(history.steps.iter().map(|stats| stats.step).collect::<Vec<_>>(), [1, 2, 3]);
    for (stats, norm) in history.steps.iter().zip(norms) {
        assert!((f64::from(stats.grad_norm.expect("a norm")) / norm - 1.0).abs() < 1e-5, "{stats:?}, {norm}");
    }
    let without = fused(Sgd::default()).build(&model, setup()).expect("built");
    let refused = without.history().map(drop).expect_err("no history");
    assert!(matches!(refused, Error::Optimizer(wgpu_optim::Error::NoHistory)), "{refused}");
}

#[test]
fn accumulated_gradients_are_those_of_burns_accumulator() {
    let settings = builder(Adam::default()).accumulate_gradients();
    let (mut ours, mut theirs) = (Classifier::new(), Classifier::new());
    let mut optimizer = FusedOptimizer::builder(settings).build(&ours, setup()).expect("built");
    let mut plain = fused(Adam::default()).build(&theirs, setup()).expect("built");
    for step in 0..3 {
        let mut accumulator = GradientsAccumulator::new();
        for part in 0..4 {
            let grads = ours.grads(4 * step + part);
            optimizer.accumulate(&ours, grads, 1.0).expect("added");
            let grads = theirs.grads(4 * step + part);
            accumulator.accumulate(&theirs, grads);
        }
        ours = optimizer.step_accumulated(0.01, ours).expect("a step");
        theirs = plain.step(0.01, theirs, accumulator.grads()).expect("a step");
    }
    assert!(difference(&values(&ours), &values(&theirs)) < 1e-5);
}

#[test]
fn evaluation_sees_the_average_and_training_goes_on_without() {
    let mut model = Classifier::new();
    let settings = builder(Sgd::default()).average(Ema::new(0.5));
    let mut optimizer = FusedOptimizer::builder(settings).build(&model, setup()).expect("built");
    // The average begins as the parameters after the first step.
    let grads = model.grads(0);
    model = optimizer.step(0.1, model, grads).expect("a step");
    let first = values(&model);
    let grads = model.grads(1);
    model = optimizer.step(0.1, model, grads).expect("a step");
    let second = values(&model);
    model = optimizer.eval(model).expect("the average");
    let mean = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| 0.5 * a + 0.5 * b).collect();
    let expected: Vec<Vec<f32>> = first.iter().zip(&second).map(mean).collect();
    assert!(difference(&values(&model), &expected) < 1e-6);
    let refused = optimizer.step(0.1, model, GradientsParams::new()).expect_err("a step in evaluation mode");
    model = optimizer.train(refused.module).expect("the parameters");
    assert_eq!(values(&model), second);
}

#[test]
fn rates_come_from_the_call_or_from_the_schedule() {
    let mut model = Classifier::new();
    let settings = builder(Sgd::default()).schedule(Schedule::constant(0.0));
    let mut optimizer = FusedOptimizer::builder(settings).build(&model, setup()).expect("built");
    let before = values(&model);
    let grads = model.grads(0);
    model = optimizer.step(None, model, grads).expect("a step");
    assert_eq!(values(&model), before);
    let grads = model.grads(0);
    model = optimizer.step(0.1, model, grads).expect("a step");
    assert_ne!(values(&model), before);
    let grads = model.grads(0);
    let refused = optimizer.step(f64::NAN, model, grads).expect_err("no rate");
    assert!(matches!(refused.error, Error::Optimizer(_)), "{refused}");
}

/// With the same requirement of gradients, and the same strategy of checkpointing.
#[test]
fn the_module_goes_on_as_one_that_is_trained() {
    for device in [device(), device().gradient_checkpointing()] {
        let mut model = LinearConfig::new(6, 4).init(&device);
        let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
        for _ in 0..2 {
            let loss = model.forward(Tensor::<2>::ones([2, 6], &device)).powi_scalar(2).sum();
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            assert_eq!(grads.len(), 2);
            model = optimizer.step(0.01, model, grads).expect("a step");
            assert!(model.weight.is_require_grad());
            let strategy = model.weight.val().gradient_checkpointing_strategy();
            assert_eq!(format!("{strategy:?}"), format!("{:?}", device.gradient_checkpointing_strategy()));
        }
        assert!(model.valid().train().weight.is_require_grad());
    }
}

#[test]
fn parameters_may_be_frozen_later() {
    let mut model = Classifier::new();
    let settings = builder(AdamW::default()).missing_gradients();
    let mut optimizer = FusedOptimizer::builder(settings).build(&model, setup()).expect("built");
    model.first = model.first.no_grad();
    let before = model.clone();
    let grads = model.grads(0);
    model = optimizer.step(0.01, model, grads).expect("a step");
    assert_eq!(numbers(model.first.weight.val()), numbers(before.first.weight.val()));
    assert!(!model.first.weight.is_require_grad());
    assert_ne!(numbers(model.last.weight.val()), numbers(before.last.weight.val()));
}

/// Running means are no parameters.
#[test]
fn running_means_are_left_alone() {
    let mut model = BatchNormConfig::new(3).init(&device());
    let mut optimizer = fused(Sgd::default()).build(&model, setup()).expect("built");
    let loss = model.forward(Tensor::<3>::ones([2, 3, 4], &device()) * 2.0).sum();
    let mean = numbers(model.running_mean.value());
    let grads = GradientsParams::from_grads(loss.backward(), &model);
    model = optimizer.step(0.5, model, grads).expect("a step");
    assert_eq!(numbers(model.running_mean.value()), mean);
    assert_eq!(numbers(model.beta.val()), [-4.0; 3]);
}

/// burn on a device that the program made.
#[test]
fn burn_may_run_on_a_device_of_the_program() {
    let WgpuSetup { instance, adapter, backend, .. } = setup().clone();
    let wanted = wgpu::DeviceDescriptor {
        required_features: setup().device.features(),
        required_limits: adapter.limits(),
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&wanted)).expect("a device");
    let own = WgpuSetup { instance, adapter, device, queue, backend };
    let device = Device::wgpu_options().setup(own.clone()).init().expect("registered").autodiff();
    let mut model = LinearConfig::new(6, 4).init(&device);
    let mut optimizer = fused(Sgd::default()).build(&model, &own).expect("built");
    let before = values(&model);
    let loss = model.forward(Tensor::<2>::ones([1, 6], &device)).sum();
    let grads = GradientsParams::from_grads(loss.backward(), &model);
    model = optimizer.step(0.5, model, grads).expect("a step");
    let expected: Vec<Vec<f32>> = before.iter().map(|tensor| tensor.iter().map(|p| p - 0.5).collect()).collect();
    assert_eq!(values(&model), expected);
}

#[test]
fn the_loss_scale_stays_on_the_device() {
    let scaler = GradScaler::default().with_init_scale(8.0).with_growth_interval(1);
    let settings = builder(Sgd::default()).grad_scaler(scaler);
    let (mut model, mut plain_model) = (Classifier::new(), Classifier::new());
    let mut optimizer = FusedOptimizer::builder(settings).build(&model, setup()).expect("built");
    let mut plain = fused(Sgd::default()).build(&plain_model, setup()).expect("built");
    assert!(plain.loss_scale().expect("a call").is_none());
    for step in 0..3 {
        let scale = optimizer.loss_scale().expect("a call").expect("a scale");
        assert_eq!(numbers(scale.clone()), [8.0 * 2f32.powi(step)]);
        let loss = model.loss(step as usize) * scale;
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.1, model, grads).expect("a step");
        let grads = plain_model.grads(step as usize);
        plain_model = plain.step(0.1, plain_model, grads).expect("a step");
    }
    assert!(difference(&values(&model), &values(&plain_model)) < 1e-6);
}

/// Parameters and gradients of 16 bits, of odd lengths; states are f32.
#[test]
fn modules_of_16_bits() {
    let f16 = (DType::F16, FloatDType::F16, Precision::f16_master().with_grads(Dtype::F16));
    let bf16 = (DType::BF16, FloatDType::BF16, Precision::bf16_master().with_grads(Dtype::Bf16));
    for (dtype, float, precision) in [f16, bf16] {
        if !device().supports_dtype(dtype) {
            eprintln!("SKIPPED: burn does not compute in {dtype:?} on this adapter");
            continue;
        }
        let half = |len: usize, value: f32| {
            Param::from_tensor(Tensor::<1>::full([len], value, &device()).inner().cast(float).autodiff())
        };
        let mut model = Pair { a: half(7, 1.0), b: half(64, 2.0) };
        let settings = builder(Sgd::default()).precision(precision);
        let mut optimizer = FusedOptimizer::builder(settings).build(&model, setup()).expect("built");
        for _ in 0..3 {
            let loss = model.a.val().sum() * 2.0 + model.b.val().sum();
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(0.125, model, grads).expect("a step");
        }
        assert_eq!(model.a.val().dtype(), dtype);
        assert_eq!(values(&model), [vec![0.25; 7], vec![1.625; 64]]);
    }
}
