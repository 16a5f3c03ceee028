//! Saved, and continued with the same bits.

use wgpu_optim_burn::wgpu_optim::{AdamW, Clip, Ema, OptimizerBuilder, Schedule};
use wgpu_optim_burn::{Error, FusedOptimizer};

use crate::common::{Classifier, builder, setup, values};

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
