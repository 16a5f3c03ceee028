//! The same training with burn's optimizers and with the library's.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdaGradConfig, AdamConfig, AdamWConfig, GradientsParams, LionConfig, ModuleOptimizer, RmsPropConfig, SgdConfig,
};
use burn::tensor::Tensor;
use wgpu_optim_burn::wgpu_optim;
use wgpu_optim_burn::wgpu_optim::{Adagrad, Adam, AdamW, CpuOptimizer, Layout, Lion, RmsProp, Rule, Sgd};

use crate::common::{Classifier, builder, device, difference, fused, setup, values};

/// Both optimizers step with the gradients of burn's model, so that rounding is not amplified by training.
fn same_numbers(theirs: impl Into<ModuleOptimizer>, ours: impl Rule + 'static, lr: f64, tolerance: f32) {
    let (mut theirs, mut burn_model) = (theirs.into(), Classifier::new());
    // The same ids; the first step copies what the two share.
    let mut model = burn_model.clone().fork(&device());
    let mut optimizer = fused(ours).build(&model, setup()).expect("built");
    let before = values(&model);
    for step in 0..200 {
        let grads = burn_model.grads(step);
        let same = copied(&burn_model, &grads);
        burn_model = theirs.step(lr, burn_model, grads);
        model = optimizer.step(lr, model, same).expect("a step");
    }
    let (ours, theirs) = (values(&model), values(&burn_model));
    assert!(difference(&theirs, &before) > 0.05, "nothing was learned");
    let apart = difference(&ours, &theirs);
    assert!(apart < tolerance, "{apart:e} apart, {tolerance:e} allowed");
}

/// Every gradient once more.
fn copied(module: &Classifier, grads: &GradientsParams) -> GradientsParams {
    struct Copy<'a>(&'a GradientsParams, GradientsParams);
    impl ModuleVisitor for Copy<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.0.get::<D>(param.id) {
                self.1.register(param.id, grad);
            }
        }
    }
    let mut copy = Copy(grads, GradientsParams::new());
    module.visit(&mut copy);
    copy.1
}

#[test]
fn sgd() {
    let decay = Some(WeightDecayConfig::new(0.01));
    same_numbers(SgdConfig::new().with_weight_decay(decay).init(), Sgd::default().with_weight_decay(0.01), 0.05, 1e-5);
}

#[test]
fn sgd_with_momentum() {
    for nesterov in [false, true] {
        let dampening = if nesterov { 0.0 } else { 0.1 };
        let momentum = MomentumConfig { momentum: 0.9, dampening, nesterov };
        let theirs = SgdConfig::new().with_momentum(Some(momentum)).init();
        let ours = Sgd::default().with_momentum(0.9).with_dampening(dampening).with_nesterov(nesterov);
        same_numbers(theirs, ours, 0.02, 1e-5);
    }
}

#[test]
fn adam() {
    let decay = Some(WeightDecayConfig::new(0.01));
    let theirs = AdamConfig::new().with_epsilon(1e-8).with_weight_decay(decay).init();
    same_numbers(theirs, Adam::default().with_weight_decay(0.01), 1e-3, 1e-4);
}

#[test]
fn adam_w() {
    let theirs = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).init();
    same_numbers(theirs, AdamW::default(), 1e-3, 1e-4);
    let theirs = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).with_amsgrad(true).init();
    same_numbers(theirs, AdamW::default().with_amsgrad(true), 1e-3, 1e-4);
}

#[test]
fn rms_prop() {
    for (momentum, centered) in [(0.0, false), (0.9, false), (0.9, true)] {
        let theirs = RmsPropConfig::new().with_epsilon(1e-5).with_momentum(momentum).with_centered(centered).init();
        let ours = RmsProp::default().with_eps(1e-5).with_momentum(f64::from(momentum)).with_centered(centered);
        same_numbers(theirs, ours, 1e-3, 1e-4);
    }
}

#[test]
fn adagrad() {
    let theirs = AdaGradConfig::new().with_epsilon(1e-5).with_lr_decay(0.01).init();
    same_numbers(theirs, Adagrad::default().with_eps(1e-5).with_lr_decay(0.01), 0.02, 1e-4);
}

/// An element whose update has another sign by rounding is two learning rates away.
#[test]
fn lion() {
    let lr = 1e-3;
    let theirs = LionConfig::new().with_weight_decay(0.01).init();
    same_numbers(theirs, Lion::default().with_weight_decay(0.01), lr, 0.02);
}

/// Each with its own gradients.
#[test]
fn losses_are_those_of_burn() {
    let mut theirs: ModuleOptimizer = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).init();
    let (mut model, mut burn_model) = (Classifier::new(), Classifier::new());
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    let mut losses = Vec::new();
    for step in 0..20 {
        let (loss, burn_loss) = (model.loss(step), burn_model.loss(step));
        losses.push((loss.clone().into_scalar::<f32>(), burn_loss.clone().into_scalar::<f32>()));
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-3, model, grads).expect("a step");
        let grads = GradientsParams::from_grads(burn_loss.backward(), &burn_model);
        burn_model = theirs.step(1e-3, burn_model, grads);
    }
    for (ours, theirs) in &losses {
        assert!(((ours - theirs) / theirs).abs() < 1e-5, "{losses:?}");
    }
    assert!(losses[19].0 < losses[0].0, "{losses:?}");
}

/// The library's CPU engine with the gradients of the device.
#[test]
fn the_cpu_engine_computes_the_same() {
    let mut model = Classifier::new();
    let clip = wgpu_optim::Clip::global_norm(0.5);
    let settings = || builder(AdamW::default().with_weight_decay(0.1)).clip(clip);
    let mut optimizer = wgpu_optim_burn::FusedOptimizer::builder(settings()).build(&model, setup()).expect("built");
    let mut flat = values(&model);
    let mut layout = Layout::builder();
    for (number, tensor) in flat.iter().enumerate() {
        layout = layout.tensor(number.to_string(), &[tensor.len()]);
    }
    let layout = layout.packed().build().expect("a layout");
    let mut params: Vec<f32> = flat.concat();
    let mut cpu: CpuOptimizer = settings().build_cpu(&layout).expect("built");
    for step in 0..50 {
        let grads = model.grads(step);
        let host = host_grads(&model, &grads).concat();
        model = optimizer.step(2e-3, model, grads).expect("a step");
        cpu.set_lr(2e-3).expect("a rate");
        cpu.step(&mut params, &host).expect("a step");
    }
    let mut rest = &params[..];
    for tensor in &mut flat {
        let (first, others) = rest.split_at(tensor.len());
        tensor.copy_from_slice(first);
        rest = others;
    }
    let apart = difference(&values(&model), &flat);
    assert!(apart < 1e-6, "{apart:e}");
}

pub fn host_grads(module: &Classifier, grads: &GradientsParams) -> Vec<Vec<f32>> {
    struct Read<'a>(&'a GradientsParams, Vec<Vec<f32>>);
    impl ModuleVisitor for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push(crate::common::numbers(self.0.get::<D>(param.id).expect("a gradient")));
        }
    }
    let mut read = Read(grads, Vec::new());
    module.visit(&mut read);
    read.1
}
