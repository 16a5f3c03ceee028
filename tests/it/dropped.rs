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

/// Records one call into an encoder of its own.
fn recorded(trainer: &mut Trainer, record: impl FnOnce(&mut Trainer, &mut CommandEncoder)) -> CommandEncoder {
    let mut encoder = encoder(trainer.gpu);
    record(trainer, &mut encoder);
    encoder
}

fn record_eval(trainer: &mut Trainer, encoder: &mut CommandEncoder) {
    trainer.optimizer.eval(encoder, &trainer.params).unwrap();
}

fn record_train(trainer: &mut Trainer, encoder: &mut CommandEncoder) {
    trainer.optimizer.train(encoder, &trainer.params).unwrap();
}

/// All calls are recorded before any encoder is submitted or dropped. The last that is submitted chooses the parameters.
#[test]
fn any_eval_and_any_train_may_be_dropped_later() {
    let after_two_steps = || {
        let mut trainer = trainer(Optimizer::builder(ScheduleFreeSgd::default()));
        trainer.step(&random(2, LEN));
        trainer.step(&random(3, LEN));
        trainer
    };
    let mut reference = after_two_steps();
    let of_training = reference.bits();
    let encoder = recorded(&mut reference, record_eval);
    reference.gpu.queue.submit([encoder.finish()]);
    let of_evaluation = reference.bits();
    assert!(of_training != of_evaluation);
    for submitted in 0..32_u32 {
        for drops_first in [true, false] {
            let mut trainer = after_two_steps();
            let calls = (0..5).map(|number| {
                let encoder = recorded(&mut trainer, if number % 2 == 0 { record_eval } else { record_train });
                (number, encoder)
            });
            let (kept, dropped): (Vec<_>, Vec<_>) = calls.partition(|(number, _)| submitted >> number & 1 == 1);
            let last = kept.last().map(|(number, _)| *number);
            let mut dropped = Some(dropped);
            dropped = dropped.filter(|_| !drops_first);
            for (_, encoder) in kept {
                trainer.gpu.queue.submit([encoder.finish()]);
            }
            drop(dropped);
            let what = format!("submitted {submitted:05b}, drops first: {drops_first}");
            let evaluates = last.is_some_and(|number| number % 2 == 0);
            assert!(trainer.bits() == if evaluates { &of_evaluation } else { &of_training }[..], "{what}");
            let mut refused = self::encoder(trainer.gpu);
            let step = trainer.optimizer.step(&mut refused, &trainer.params, &trainer.grads);
            assert_eq!(matches!(step, Err(Error::EvaluationMode { .. })), evaluates, "{what}: {step:?}");
            drop(refused);
            let encoder = recorded(&mut trainer, record_train);
            trainer.gpu.queue.submit([encoder.finish()]);
            assert!(trainer.bits() == of_training, "{what}: not the training parameters");
            assert_eq!(trainer.step(&random(4, LEN)).step, 3, "{what}");
        }
    }
}

#[test]
fn a_restore_of_a_snapshot_that_is_dropped_later_changes_nothing() {
    for drop_it in drops() {
        for drops_first in [true, false] {
            let builder = Optimizer::builder(Sgd::default().with_momentum(0.9)).schedule(OneCycle::new(1.0, 20));
            let builder = builder.history(4);
            let (mut trained, mut untouched) = (trainer(builder.clone()), trainer(builder));
            let mut dropped = encoder(trained.gpu);
            let snapshot = trained.optimizer.snapshot(&mut dropped, &trained.params).unwrap();
            for trainer in [&mut trained, &mut untouched] {
                trainer.optimizer.set_grad_scale(0.5).unwrap();
                trainer.step(&random(2, LEN));
                trainer.step(&random(3, LEN));
            }
            let restore = recorded(&mut trained, |trained, encoder| {
                trained.optimizer.restore(encoder, &trained.params, &snapshot).unwrap();
            });
            if drops_first {
                drop_it(dropped);
                trained.gpu.queue.submit([restore.finish()]);
            } else {
                trained.gpu.queue.submit([restore.finish()]);
                drop_it(dropped);
            }
            assert_eq!(trained.optimizer.lr().unwrap(), untouched.optimizer.lr().unwrap());
            for seed in 4..7 {
                assert!(trained.bits() == untouched.bits(), "before step {seed}");
                assert_eq!(trained.step(&random(seed, LEN)), untouched.step(&random(seed, LEN)));
            }
            assert!(trained.bits() == untouched.bits() && trained.history() == untouched.history());
        }
    }
}

/// Neither the mode of a dropped snapshot nor its copy of the training parameters comes back.
#[test]
fn a_restore_of_an_evaluating_snapshot_that_is_dropped_later_leaves_the_mode() {
    let mut trainer = trainer(Optimizer::builder(ScheduleFreeSgd::default()));
    trainer.step(&random(2, LEN));
    let eval = recorded(&mut trainer, record_eval);
    trainer.gpu.queue.submit([eval.finish()]);
    let mut dropped = encoder(trainer.gpu);
    let snapshot = trainer.optimizer.snapshot(&mut dropped, &trainer.params).unwrap();
    let train = recorded(&mut trainer, record_train);
    trainer.gpu.queue.submit([train.finish()]);
    trainer.step(&random(3, LEN));
    let before = trainer.bits();
    let restore = recorded(&mut trainer, |trainer, encoder| {
        trainer.optimizer.restore(encoder, &trainer.params, &snapshot).unwrap();
    });
    drop(dropped);
    trainer.gpu.queue.submit([restore.finish()]);
    assert!(trainer.bits() == before);
    let train = recorded(&mut trainer, record_train);
    trainer.gpu.queue.submit([train.finish()]);
    assert!(trainer.bits() == before);
    assert_eq!(trainer.step(&random(4, LEN)).step, 3);
}

/// A snapshot after a `train` that is dropped later holds evaluation parameters.
#[test]
fn a_snapshot_knows_what_was_dropped_after_it() {
    let mut trainer = trainer(Optimizer::builder(ScheduleFreeSgd::default()));
    trainer.step(&random(2, LEN));
    trainer.step(&random(3, LEN));
    let of_training = trainer.bits();
    let eval = recorded(&mut trainer, record_eval);
    trainer.gpu.queue.submit([eval.finish()]);
    let of_evaluation = trainer.bits();
    let dropped = recorded(&mut trainer, record_train);
    let mut recording = encoder(trainer.gpu);
    let snapshot = trainer.optimizer.snapshot(&mut recording, &trainer.params).unwrap();
    trainer.gpu.queue.submit([recording.finish()]);
    drop(dropped);
    let train = recorded(&mut trainer, record_train);
    trainer.gpu.queue.submit([train.finish()]);
    assert!(trainer.bits() == of_training);
    trainer.step(&random(4, LEN));
    // Other training parameters than those of the snapshot.
    let eval = recorded(&mut trainer, record_eval);
    trainer.gpu.queue.submit([eval.finish()]);
    let restore = recorded(&mut trainer, |trainer, encoder| {
        trainer.optimizer.restore(encoder, &trainer.params, &snapshot).unwrap();
    });
    trainer.gpu.queue.submit([restore.finish()]);
    assert!(trainer.bits() == of_evaluation);
    let mut refused = encoder(trainer.gpu);
    let step = trainer.optimizer.step(&mut refused, &trainer.params, &trainer.grads);
    assert!(matches!(step, Err(Error::EvaluationMode { .. })), "{step:?}");
    let train = recorded(&mut trainer, record_train);
    trainer.gpu.queue.submit([train.finish()]);
    assert!(trainer.bits() == of_training);
}

/// The state before the second restoration is that without the first.
#[test]
fn restorations_that_are_dropped_one_after_the_other_leave_nothing() {
    let (mut trainer, first) = with_snapshot();
    let mut recording = encoder(trainer.gpu);
    let second = trainer.optimizer.snapshot(&mut recording, &trainer.params).unwrap();
    trainer.gpu.queue.submit([recording.finish()]);
    trainer.step(&GRADS);
    let lr = trainer.optimizer.lr().unwrap();
    let [first, second] = [first, second].map(|snapshot| {
        recorded(&mut trainer, |trainer, encoder| {
            trainer.optimizer.restore(encoder, &trainer.params, &snapshot).unwrap();
        })
    });
    drop(first);
    // Looks at what was dropped.
    trainer.optimizer.prepare(&trainer.params, &trainer.grads).unwrap();
    drop(second);
    assert_eq!(trainer.optimizer.lr().unwrap(), lr);
}
