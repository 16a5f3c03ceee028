//! Saved, and continued with the same bits.

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::prelude::*;
use wgpu_optim_burn::wgpu_optim::{AdamW, Clip, Ema, OptimizerBuilder, Schedule};
use wgpu_optim_burn::{Error, FusedOptimizer};

use crate::common::{Classifier, builder, device, noise, numbers, setup, values};

fn settings() -> OptimizerBuilder {
    let schedule = Schedule::warmup_cosine(1e-2, 3, 20);
    builder(AdamW::default()).schedule(schedule).clip(Clip::global_norm(1.0)).average(Ema::new(0.9))
}

fn train(optimizer: &mut FusedOptimizer, mut model: Classifier, steps: std::ops::Range<usize>) -> Classifier {
    for step in steps {
        let grads = model.grads(step);
        model = optimizer.step(None, model, grads).expect("a step");
    }
    model
}

#[test]
fn training_continues_with_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("optimizer.safetensors");
    let model = Classifier::new();
    let mut optimizer = FusedOptimizer::builder(settings()).build(&model, setup()).expect("built");
    let model = train(&mut optimizer, model, 0..5);
    optimizer.save(&path, &model).expect("saved");
    let expected = values(&train(&mut optimizer, model, 5..10));

    let fresh = Classifier::new();
    let mut optimizer = FusedOptimizer::builder(settings()).build(&fresh, setup()).expect("built");
    let (model, loaded) = optimizer.load(&path, fresh).expect("loaded");
    assert_eq!(loaded.differences, []);
    assert_eq!(values(&train(&mut optimizer, model, 5..10)), expected);
}

#[test]
fn a_file_of_another_model_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("optimizer.safetensors");
    let model = Classifier::new();
    let optimizer = FusedOptimizer::builder(settings()).build(&model, setup()).expect("built");
    optimizer.save(&path, &model).expect("saved");
    let other = Classifier::with_width(40);
    let before = values(&other);
    let mut optimizer = FusedOptimizer::builder(settings()).build(&other, setup()).expect("built");
    let refused = optimizer.load(&path, other).expect_err("other shapes");
    assert!(matches!(refused.error, Error::Checkpoint(_)), "{refused}");
    assert_eq!(values(&refused.module), before);
    let grads = refused.module.grads(0);
    optimizer.step(None, refused.module, grads).expect("a step");
}

/// With a running mean and a frozen layer, which are no parameters to train.
#[derive(Module, Debug)]
struct Normed {
    embed: Linear,
    norm: BatchNorm,
    head: Linear,
}

impl Normed {
    fn new() -> Self {
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device());
        Self { embed: linear(6, 8).no_grad(), norm: BatchNormConfig::new(8).init(&device()), head: linear(8, 3) }
    }

    fn step(self, optimizer: &mut FusedOptimizer, step: u32) -> Self {
        let inputs: Vec<f32> = (0..24).map(|i| noise(step, i)).collect();
        let x = Tensor::<2>::from_data(TensorData::new(inputs, [4, 6]), &device());
        let loss = self.head.forward(self.norm.forward(self.embed.forward(x))).powi_scalar(2).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &self);
        optimizer.step(None, self, grads).expect("a step")
    }
}

/// burn's record has the whole module, the library's file the optimizer.
#[test]
fn both_files_together_continue_a_module_with_running_means() {
    let folder = tempfile::tempdir().expect("a folder");
    let (record, states) = (folder.path().join("module"), folder.path().join("optimizer.safetensors"));
    let mut model = Normed::new();
    let mut optimizer = FusedOptimizer::builder(settings()).build(&model, setup()).expect("built");
    for step in 0..4 {
        model = model.step(&mut optimizer, step);
    }
    // `valid` brings running means up to date; other records may lack the last update.
    model.valid().save_file(&record).expect("saved");
    optimizer.save(&states, &model).expect("saved");
    let mean = |model: &Normed| numbers(model.norm.running_mean.value_sync());
    let saved = mean(&model);
    for step in 4..8 {
        model = model.step(&mut optimizer, step);
    }

    let mut resumed = Normed::new().try_load_file(&record).expect("loaded");
    let mut optimizer = FusedOptimizer::builder(settings()).build(&resumed, setup()).expect("built");
    (resumed, _) = optimizer.load(&states, resumed).expect("loaded");
    assert_eq!(mean(&resumed), saved);
    for step in 4..8 {
        resumed = resumed.step(&mut optimizer, step);
    }
    assert_ne!(mean(&resumed), saved);
    assert_eq!(values(&resumed.valid()), values(&model.valid()));
}
