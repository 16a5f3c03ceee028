//! Encoders that are dropped: a dropped call is a call not made.

use crate::common::numbers::random;
use crate::common::{Trainer, device, encoder};
use wgpu_optim::schedule::{Exponential, OneCycle};
use wgpu_optim::wgpu::CommandEncoder;
use wgpu_optim::{Error, Layout, Optimizer, OptimizerBuilder, ScheduleFreeSgd, Sgd, Snapshot};

const LEN: usize = 300;

fn trainer(builder: OptimizerBuilder) -> Trainer<'static> {
    Trainer::new(device::gpu(), builder, &Layout::flat(LEN).unwrap(), &random(1, LEN))
}

/// Drops an encoder, or the command buffer of it.
fn drops() -> [fn(CommandEncoder); 2] {
    [drop, |encoder| drop(encoder.finish())]
}

#[test]
fn a_dropped_eval_leaves_training_parameters() {
    for drop_it in drops() {
        let mut trainer = trainer(Optimizer::builder(ScheduleFreeSgd::default()));
        trainer.step(&random(2, LEN));
        let before = trainer.bits();
        let mut dropped = encoder(trainer.gpu);
        trainer.optimizer.eval(&mut dropped, &trainer.params).unwrap();
        drop_it(dropped);
        let mut recorded = encoder(trainer.gpu);
        trainer.optimizer.train(&mut recorded, &trainer.params).unwrap();
        trainer.gpu.queue.submit([recorded.finish()]);
        assert!(trainer.bits() == before);
        assert_eq!(trainer.step(&random(3, LEN)).step, 2);
    }
}

#[test]
fn a_dropped_train_leaves_evaluation_parameters() {
    for drop_it in drops() {
        let mut trainer = trainer(Optimizer::builder(ScheduleFreeSgd::default()));
        trainer.step(&random(2, LEN));
        trainer.step(&random(3, LEN));
        let before = trainer.bits();
        let mut recorded = encoder(trainer.gpu);
        trainer.optimizer.eval(&mut recorded, &trainer.params).unwrap();
        trainer.gpu.queue.submit([recorded.finish()]);
        assert!(trainer.bits() != before);
        let mut dropped = encoder(trainer.gpu);
        trainer.optimizer.train(&mut dropped, &trainer.params).unwrap();
        drop_it(dropped);
        let mut recorded = encoder(trainer.gpu);
        let refused = trainer.optimizer.step(&mut recorded, &trainer.params, &trainer.grads);
        assert!(matches!(refused, Err(Error::EvaluationMode { call: "step" })), "{refused:?}");
        trainer.optimizer.train(&mut recorded, &trainer.params).unwrap();
        trainer.gpu.queue.submit([recorded.finish()]);
        assert!(trainer.bits() == before);
    }
}

/// After a dropped encoder with three calls, the mode is that before the first.
#[test]
fn dropped_calls_are_undone_in_reverse() {
    let mut trainer = trainer(Optimizer::builder(ScheduleFreeSgd::default()));
    let mut recorded = encoder(trainer.gpu);
    trainer.optimizer.eval(&mut recorded, &trainer.params).unwrap();
    trainer.gpu.queue.submit([recorded.finish()]);
    let mut dropped = encoder(trainer.gpu);
    trainer.optimizer.train(&mut dropped, &trainer.params).unwrap();
    trainer.optimizer.eval(&mut dropped, &trainer.params).unwrap();
    trainer.optimizer.train(&mut dropped, &trainer.params).unwrap();
    drop(dropped);
    let mut recorded = encoder(trainer.gpu);
    let refused = trainer.optimizer.step(&mut recorded, &trainer.params, &trainer.grads);
    assert!(matches!(refused, Err(Error::EvaluationMode { .. })), "{refused:?}");
}

#[test]
fn a_dropped_snapshot_is_refused() {
    for drop_it in drops() {
        let mut trainer = trainer(Optimizer::builder(Sgd::default().with_momentum(0.9)));
        trainer.step(&random(2, LEN));
        let before = trainer.bits();
        let mut dropped = encoder(trainer.gpu);
        let snapshot = trainer.optimizer.snapshot(&mut dropped, &trainer.params).unwrap();
        drop_it(dropped);
        let mut recorded = encoder(trainer.gpu);
        let refused = trainer.optimizer.restore(&mut recorded, &trainer.params, &snapshot);
        assert!(matches!(refused, Err(Error::SnapshotDropped)), "{refused:?}");
        trainer.gpu.queue.submit([recorded.finish()]);
        assert!(trainer.bits() == before);
    }
}

#[test]
fn a_dropped_restore_changes_nothing() {
    for drop_it in drops() {
        let builder = Optimizer::builder(Sgd::default()).schedule(OneCycle::new(1.0, 10));
        let (mut trained, mut untouched) = (trainer(builder.clone()), trainer(builder));
        trained.optimizer.set_grad_scale(0.5).unwrap();
        untouched.optimizer.set_grad_scale(0.5).unwrap();
        let mut recorded = encoder(trained.gpu);
        let snapshot = trained.optimizer.snapshot(&mut recorded, &trained.params).unwrap();
        trained.gpu.queue.submit([recorded.finish()]);
        for seed in 0..3 {
            trained.step(&random(seed, LEN));
            untouched.step(&random(seed, LEN));
        }
        trained.optimizer.set_grad_scale(0.25).unwrap();
        untouched.optimizer.set_grad_scale(0.25).unwrap();
        let mut dropped = encoder(trained.gpu);
        trained.optimizer.restore(&mut dropped, &trained.params, &snapshot).unwrap();
        drop_it(dropped);
        assert_eq!(trained.optimizer.lr().unwrap(), untouched.optimizer.lr().unwrap());
        for seed in 3..5 {
            trained.step(&random(seed, LEN));
            untouched.step(&random(seed, LEN));
            assert!(trained.bits() == untouched.bits(), "step {seed}");
        }
    }
}

/// The settings from before the restored ones must not come back, nor a part of them.
#[test]
fn what_is_set_beside_a_dropped_restore_stays() {
    for set_before_the_drop in [false, true] {
        let builder = Optimizer::builder(Sgd::default().with_momentum(0.9)).schedule(OneCycle::new(1.0, 10));
        let (mut trained, mut untouched) = (trainer(builder.clone()), trainer(builder));
        let mut recorded = encoder(trained.gpu);
        let snapshot = trained.optimizer.snapshot(&mut recorded, &trained.params).unwrap();
        trained.gpu.queue.submit([recorded.finish()]);
        let scale = device::upload(trained.gpu, &[0.25]);
        for trainer in [&mut trained, &mut untouched] {
            trainer.optimizer.set_grad_scale(&scale).unwrap();
            trainer.step(&random(2, LEN));
        }
        let mut dropped = encoder(trained.gpu);
        trained.optimizer.restore(&mut dropped, &trained.params, &snapshot).unwrap();
        let mut dropped = Some(dropped);
        if !set_before_the_drop {
            dropped = None;
        }
        for trainer in [&mut trained, &mut untouched] {
            trainer.optimizer.set_applied_steps(5).unwrap();
            trainer.optimizer.set_grad_scale(1024.0).unwrap();
        }
        drop(dropped);
        assert_eq!(trained.optimizer.lr().unwrap(), untouched.optimizer.lr().unwrap());
        trained.step(&random(3, LEN));
        untouched.step(&random(3, LEN));
        assert!(trained.bits() == untouched.bits(), "set before the drop: {set_before_the_drop}");
    }
}

/// The parameters' only gradient.
const GRADS: [f32; LEN] = [1.0; LEN];

/// An optimizer at learning rate 1, and a snapshot of it before a step.
fn with_snapshot() -> (Trainer<'static>, Snapshot) {
    let mut trainer = trainer(Optimizer::builder(Sgd::default()).schedule(Exponential::new(1.0, 0.5)));
    let mut recorded = encoder(trainer.gpu);
    let snapshot = trainer.optimizer.snapshot(&mut recorded, &trainer.params).unwrap();
    trainer.gpu.queue.submit([recorded.finish()]);
    trainer.step(&GRADS);
    (trainer, snapshot)
}

/// Settings after a dropped restore, or between it and its drop, stay.
#[test]
fn a_dropped_restore_undoes_no_later_setting() {
    for drops_first in [true, false] {
        let restored = |set: &mut dyn FnMut(&mut Optimizer)| {
            let (mut trainer, snapshot) = with_snapshot();
            let mut dropped = encoder(trainer.gpu);
            trainer.optimizer.restore(&mut dropped, &trainer.params, &snapshot).unwrap();
            if drops_first {
                drop(dropped);
                set(&mut trainer.optimizer);
            } else {
                set(&mut trainer.optimizer);
                drop(dropped);
            }
            trainer
        };
        // The snapshot's own values: the calls set nothing new, and still outlast the restore.
        let trainer = restored(&mut |optimizer| optimizer.set_lr(1.0).unwrap());
        assert_eq!(trainer.optimizer.lr().unwrap(), 1.0);
        let mut trainer = restored(&mut |optimizer| optimizer.set_grad_scale(1.0).unwrap());
        let before = trainer.params();
        trainer.step(&GRADS);
        assert_eq!(before[0] - trainer.params()[0], 0.5);
        let mut trainer = restored(&mut |optimizer| optimizer.set_applied_steps(50).unwrap());
        assert_eq!(trainer.optimizer.lr().unwrap(), 0.5_f64.powi(50));
        assert_eq!(trainer.step(&GRADS).step, 51);
    }
}

/// The restoration of an evaluating snapshot outlasts an earlier `eval` that is dropped after it.
#[test]
fn a_dropped_eval_undoes_no_later_mode() {
    let mut trainer = trainer(Optimizer::builder(ScheduleFreeSgd::default()));
    let mut recorded = encoder(trainer.gpu);
    trainer.optimizer.eval(&mut recorded, &trainer.params).unwrap();
    let snapshot = trainer.optimizer.snapshot(&mut recorded, &trainer.params).unwrap();
    trainer.optimizer.train(&mut recorded, &trainer.params).unwrap();
    trainer.gpu.queue.submit([recorded.finish()]);
    let mut dropped = encoder(trainer.gpu);
    trainer.optimizer.eval(&mut dropped, &trainer.params).unwrap();
    let mut recorded = encoder(trainer.gpu);
    trainer.optimizer.restore(&mut recorded, &trainer.params, &snapshot).unwrap();
    trainer.gpu.queue.submit([recorded.finish()]);
    drop(dropped);
    let mut recorded = encoder(trainer.gpu);
    let refused = trainer.optimizer.step(&mut recorded, &trainer.params, &trainer.grads);
    assert!(matches!(refused, Err(Error::EvaluationMode { .. })), "{refused:?}");
}
