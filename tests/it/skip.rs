//! Non-finite gradients: skipping, stopping, propagating.

use crate::common::numbers::random;
use crate::common::{Trainer, assert_same_decision, cpu_bits, device};
use wgpu_optim::{AdamW, Clip, GroupOptions, Layout, NonFinite, Optimizer, Sgd, Stats};

const BAD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

fn clipped() -> wgpu_optim::OptimizerBuilder {
    Optimizer::builder(AdamW::default().with_lr(0.01)).clip(Clip::global_norm(1.0))
}

#[test]
fn a_skipped_step_leaves_every_byte_unchanged() {
    for len in [1, 5, 8193] {
        let layout = Layout::flat(len).unwrap();
        for bad in BAD {
            for at in [0, len / 2, len - 1] {
                let mut trainer = Trainer::new(device::gpu(), clipped(), &layout, &random(1, len));
                let mut reference = clipped().build_cpu(&layout).unwrap();
                let mut reference_params = random(1, len);
                trainer.step(&random(2, len));
                reference.step(&mut reference_params, &random(2, len)).unwrap();
                let (before, reference_before) = (trainer.bits(), cpu_bits(&reference, &reference_params));
                let mut grads = random(3, len);
                grads[at] = bad;
                let stats = trainer.step(&grads);
                assert_eq!(trainer.bits(), before, "{bad} at {at} of {len}");
                assert_same_decision(&stats, &reference.step(&mut reference_params, &grads).unwrap());
                assert_eq!(cpu_bits(&reference, &reference_params), reference_before, "{bad} at {at} of {len}");
                let Stats { step, skipped, first_nonfinite, .. } = stats;
                assert_eq!((step, skipped, first_nonfinite), (1, 1, Some(at as u64)));

                let stats = trainer.step(&random(4, len));
                assert_same_decision(&stats, &reference.step(&mut reference_params, &random(4, len)).unwrap());
                assert_eq!((stats.step, stats.skipped, stats.first_nonfinite), (2, 1, None));
                assert_ne!(trainer.bits(), before);
            }
        }
    }
}

/// A skipped step must not count in the bias corrections either: with it, the result is that of a run without it.
#[test]
fn a_skipped_step_is_as_if_it_had_never_been() {
    let layout = Layout::flat(100).unwrap();
    let params = random(1, 100);
    let mut with = Trainer::new(device::gpu(), clipped(), &layout, &params);
    let mut without = Trainer::new(device::gpu(), clipped(), &layout, &params);
    for t in 0..6 {
        let mut grads = random(10 + t, 100);
        if t % 2 == 1 {
            grads[42] = f32::NAN;
            with.step(&grads);
        } else {
            with.step(&grads);
            without.step(&grads);
        }
    }
    assert_eq!(with.bits(), without.bits());
}

#[test]
fn stop_refuses_every_later_step_until_resumed() {
    let gpu = device::gpu();
    let layout = Layout::flat(10).unwrap();
    let builder = clipped().on_nonfinite(NonFinite::Stop);
    let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &[1.0; 10]);
    let mut reference = builder.build_cpu(&layout).unwrap();
    let mut reference_params = [1.0; 10];
    let mut both = |trainer: &mut Trainer<'_>, resume: bool, grads: &[f32]| {
        if resume {
            trainer.optimizer.resume();
            reference.resume();
        }
        let stats = trainer.step(grads);
        assert_same_decision(&stats, &reference.step(&mut reference_params, grads).unwrap());
        stats
    };
    let mut bad = [1.0; 10];
    bad[3] = f32::NAN;
    let before = trainer.bits();
    assert!(both(&mut trainer, false, &bad).stopped);
    let stats = both(&mut trainer, false, &[1.0; 10]);
    assert_eq!((stats.stopped, stats.step, stats.skipped), (true, 0, 2));
    assert_eq!(trainer.bits(), before);
    let stats = both(&mut trainer, true, &[1.0; 10]);
    assert_eq!((stats.stopped, stats.step, stats.skipped), (false, 1, 2));
    assert_ne!(trainer.bits(), before);
}

#[test]
fn propagate_updates_and_still_names_the_first_bad_gradient() {
    let layout = Layout::flat(2000).unwrap();
    for clip in [false, true] {
        let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).on_nonfinite(NonFinite::Propagate);
        let builder = if clip { builder.clip(Clip::global_norm(1.0)) } else { builder };
        for bad in BAD {
            let mut grads = vec![0.5; 2000];
            grads[1201] = bad;
            grads[1999] = bad;
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[1.0; 2000]);
            let mut reference = builder.clone().build_cpu(&layout).unwrap();
            let mut reference_params = [1.0; 2000];
            let stats = trainer.step(&grads);
            let reference_stats = reference.step(&mut reference_params, &grads).unwrap();
            assert_same_decision(&stats, &reference_stats);
            assert_eq!((stats.step, stats.skipped, stats.first_nonfinite), (1, 0, Some(1201)));
            let params = trainer.params();
            assert!(!params[1201].is_finite());
            assert!(!reference_params[1201].is_finite());
            if clip {
                // torch: an infinite norm makes every other gradient 0, a NaN one makes everything NaN.
                assert_eq!(params[0].is_nan(), bad.is_nan());
                assert!(bad.is_nan() || params[0] == 1.0);
                assert_eq!(stats.grad_norm.unwrap().is_nan(), bad.is_nan());
                assert!(!stats.grad_norm.unwrap().is_finite());
            } else {
                assert_eq!(params[0], 0.5);
            }
            // The next step names nothing.
            assert_eq!(trainer.step(&[0.5; 2000]).first_nonfinite, None);
        }
    }
}

/// Padding lies between, and blocks of 64 elements have other active elements than those before them.
#[test]
fn the_first_bad_gradient_is_named_behind_padding() {
    let layout = Layout::builder().tensor("a", &[70]).tensor("b", &[1900]).group("slow").build().unwrap();
    for slow in [GroupOptions::default(), GroupOptions::default().with_lr_scale(0.5)] {
        let builder = clipped().group("slow", slow);
        for first in [0, 69, 128, 148, 1023, 1024, 2000] {
            let mut grads = random(1, layout.len());
            // In padding none is looked at.
            grads[70..128].fill(f32::NAN);
            grads[first] = f32::INFINITY;
            grads[layout.len() - 1] = f32::NAN;
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &random(2, layout.len()));
            assert_eq!(trainer.step(&grads).first_nonfinite, Some(first as u64));
            let mut reference = builder.clone().build_cpu(&layout).unwrap();
            let stats = reference.step(&mut random(2, layout.len()), &grads).unwrap();
            assert_eq!(stats.first_nonfinite, Some(first as u64));
        }
    }
}
