//! Order across threads and models.

use std::thread;

use burn::module::Module;
use wgpu_optim_burn::FusedOptimizer;
use wgpu_optim_burn::wgpu_optim::AdamW;

use crate::common::{Classifier, difference, fused, setup, values};

fn train(steps: std::ops::Range<usize>, optimizer: &mut FusedOptimizer, mut model: Classifier) -> Classifier {
    for step in steps {
        let grads = model.grads(step);
        model = optimizer.step(1e-2, model, grads).expect("a step");
    }
    model
}

fn alone(steps: usize) -> Vec<Vec<f32>> {
    let model = Classifier::new();
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    values(&train(0..steps, &mut optimizer, model))
}

/// Module, gradients and optimizer move from thread to thread.
#[test]
fn a_step_from_another_thread() {
    let mut model = Classifier::new();
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    for step in 0..6 {
        let grads = model.grads(step);
        (model, optimizer) = thread::spawn(move || {
            let model = optimizer.step(1e-2, model, grads).expect("a step");
            (model, optimizer)
        })
        .join()
        .expect("a thread");
    }
    assert!(difference(&values(&model), &alone(6)) < 1e-6);
}

#[test]
fn two_models_on_one_device_by_turns() {
    let (mut a, mut b) = (Classifier::new(), Classifier::new());
    let mut first = fused(AdamW::default()).build(&a, setup()).expect("built");
    let mut second = fused(AdamW::default()).build(&b, setup()).expect("built");
    for step in 0..6 {
        let (grads_a, grads_b) = (a.grads(step), b.grads(step));
        a = first.step(1e-2, a, grads_a).expect("a step");
        b = second.step(1e-2, b, grads_b).expect("a step");
    }
    let expected = alone(6);
    assert!(difference(&values(&a), &expected) < 1e-6);
    assert!(difference(&values(&b), &expected) < 1e-6);
}

#[test]
fn two_models_on_two_threads() {
    let expected = alone(12);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let model = Classifier::new();
                    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
                    values(&train(0..12, &mut optimizer, model))
                })
            })
            .collect();
        for worker in workers {
            assert!(difference(&worker.join().expect("a thread"), &expected) < 1e-6);
        }
    });
}

/// A clone on another thread is read there while steps go on here.
#[test]
fn a_clone_on_another_thread_keeps_its_numbers() {
    let mut model = Classifier::new();
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    let before = values(&model);
    let clone = model.valid();
    let reader = thread::spawn(move || (0..5).map(|_| values(&clone)).collect::<Vec<_>>());
    model = train(0..5, &mut optimizer, model);
    for seen in reader.join().expect("a thread") {
        assert_eq!(seen, before);
    }
    assert_ne!(values(&model), before);
}
