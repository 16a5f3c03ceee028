//! What the harness decides around a rule: clipping, skipping, counting, groups, scale, statistics.

mod common;

use approx::assert_relative_eq;
use common::numbers::{assert_same_bits, random};
use common::oracle::{clip_coefficient, global_norm};
use common::{Trainer, assert_same_decision, cpu_bits, device, encoder, finish, storage};
use wgpu_optim::wgpu::{BufferUsages, PollType};
use wgpu_optim::{AdamW, Clip, Error, GroupOptions, Layout, Lion, NonFinite, Optimizer, Schedule, Sgd, Stats};

const BAD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

fn clipped() -> wgpu_optim::OptimizerBuilder {
    Optimizer::builder(AdamW::default().with_lr(0.01)).clip(Clip::global_norm(1.0))
}

#[test]
fn clipping_scales_the_gradients_by_torchs_coefficient() {
    const LEN: usize = 20_011;
    let layout = Layout::flat(LEN).unwrap();
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0));
    for max_norm in [0.5, 1e9] {
        let params = random(1, LEN);
        let grads = random(2, LEN);
        let norm = global_norm(&grads);
        let coef = clip_coefficient(norm, max_norm);
        let builder = builder.clone().clip(Clip::global_norm(max_norm));
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
        let mut cpu_params = params.clone();
        let cpu = builder.build_cpu(&layout).unwrap().step(&mut cpu_params, &grads).unwrap();
        for (stats, updated) in [(trainer.step(&grads), trainer.params()), (cpu, cpu_params)] {
            assert_relative_eq!(f64::from(stats.grad_norm.unwrap()), norm, max_relative = 1e-6);
            assert_relative_eq!(f64::from(stats.clip_coef), coef, max_relative = 2e-6);
            for i in 0..LEN {
                let expected = f64::from(params[i]) - f64::from(grads[i]) * coef;
                let largest = params[i].abs().max(grads[i].abs() * coef as f32);
                assert!((f64::from(updated[i]) - expected).abs() <= f64::from(largest) * 3e-6, "element {i}");
            }
        }
    }
}

#[test]
fn an_infinite_max_norm_measures_and_clips_nothing() {
    let layout = Layout::flat(5).unwrap();
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).clip(Clip::global_norm(f64::INFINITY));
    for (grads, norm) in [([3e20, 0.0, 0.0, 0.0, 4e20], 5e20), ([3e38, 3e38, 0.0, 0.0, 0.0], f32::INFINITY)] {
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0; 5]);
        let stats = trainer.step(&grads);
        let mut params = [0.0; 5];
        let cpu = builder.clone().build_cpu(&layout).unwrap().step(&mut params, &grads).unwrap();
        for (stats, param) in [(stats, trainer.params()[0]), (cpu, params[0])] {
            assert_relative_eq!(stats.grad_norm.unwrap(), norm, max_relative = 1e-6);
            assert_eq!((stats.clip_coef, param), (1.0, -grads[0]));
        }
    }
}

#[test]
fn a_skipped_step_leaves_every_byte_unchanged() {
    for len in [1, 5, 8193] {
        let layout = Layout::flat(len).unwrap();
        for bad in BAD {
            for at in [0, len / 2, len - 1] {
                let mut trainer = Trainer::new(device::gpu(), clipped(), &layout, &random(1, len));
                let mut twin = clipped().build_cpu(&layout).unwrap();
                let mut twin_params = random(1, len);
                trainer.step(&random(2, len));
                twin.step(&mut twin_params, &random(2, len)).unwrap();
                let (before, twin_before) = (trainer.bits(), cpu_bits(&twin, &twin_params));
                let mut grads = random(3, len);
                grads[at] = bad;
                let stats = trainer.step(&grads);
                assert_eq!(trainer.bits(), before, "{bad} at {at} of {len}");
                assert_same_decision(&stats, &twin.step(&mut twin_params, &grads).unwrap());
                assert_eq!(cpu_bits(&twin, &twin_params), twin_before, "{bad} at {at} of {len}");
                let Stats { step, skipped, first_nonfinite, .. } = stats;
                assert_eq!((step, skipped, first_nonfinite), (1, 1, Some(at as u64)));

                let stats = trainer.step(&random(4, len));
                assert_same_decision(&stats, &twin.step(&mut twin_params, &random(4, len)).unwrap());
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
    let builder = clipped().nonfinite(NonFinite::Stop);
    let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &[1.0; 10]);
    let mut twin = builder.build_cpu(&layout).unwrap();
    let mut twin_params = [1.0; 10];
    let mut both = |trainer: &mut Trainer<'_>, resume: bool, grads: &[f32]| {
        if resume {
            trainer.optimizer.resume(&gpu.queue);
            twin.resume();
        }
        let stats = trainer.step(grads);
        assert_same_decision(&stats, &twin.step(&mut twin_params, grads).unwrap());
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
        let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).nonfinite(NonFinite::Propagate);
        let builder = if clip { builder.clip(Clip::global_norm(1.0)) } else { builder };
        for bad in BAD {
            let mut grads = vec![0.5; 2000];
            grads[1201] = bad;
            grads[1999] = bad;
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[1.0; 2000]);
            let mut twin = builder.clone().build_cpu(&layout).unwrap();
            let mut twin_params = [1.0; 2000];
            let stats = trainer.step(&grads);
            let twin_stats = twin.step(&mut twin_params, &grads).unwrap();
            assert_same_decision(&stats, &twin_stats);
            assert_eq!((stats.step, stats.skipped, stats.first_nonfinite), (1, 0, Some(1201)));
            let params = trainer.params();
            assert!(!params[1201].is_finite());
            assert!(!twin_params[1201].is_finite());
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

#[test]
fn steps_recorded_into_one_submission_act_one_by_one() {
    const LEN: usize = 1000;
    let gpu = device::gpu();
    let layout = Layout::flat(LEN).unwrap();
    let schedule = Schedule::warmup_cosine(0.1, 3, 90).with_min_lr(0.01);
    for clip in [false, true] {
        let builder = Optimizer::builder(AdamW::default()).schedule(schedule.clone());
        let builder = if clip { builder.clip(Clip::global_norm(1.0)) } else { builder };
        let mut single = Trainer::new(gpu, builder.clone(), &layout, &random(1, LEN));
        let mut joint = Trainer::new(gpu, builder, &layout, &random(1, LEN));
        // More steps than the slots that are made at a time.
        let all_grads: Vec<_> = (0..150).map(|t| random(t, LEN)).collect();
        let buffers: Vec<_> = all_grads.iter().map(|grads| device::upload(gpu, grads)).collect();
        let mut encoder = encoder(gpu);
        for buffer in &buffers {
            joint.optimizer.step(&mut encoder, &gpu.queue, &joint.params, buffer).unwrap();
        }
        let stats = finish(gpu, &joint.optimizer, encoder);
        let mut last = None;
        for grads in &all_grads {
            last = Some(single.step(grads));
        }
        assert_eq!(Some(stats), last);
        assert_eq!(stats.lr, 0.01);
        assert_eq!(joint.bits(), single.bits());
    }
}

#[test]
fn a_dropped_encoder_counts_no_step() {
    let gpu = device::gpu();
    let layout = Layout::flat(10).unwrap();
    for builder in [Optimizer::builder(AdamW::default()), clipped()] {
        let mut with = Trainer::new(gpu, builder.clone(), &layout, &[1.0; 10]);
        let mut without = Trainer::new(gpu, builder, &layout, &[1.0; 10]);
        for t in 0..5 {
            let mut dropped = encoder(gpu);
            with.optimizer.step(&mut dropped, &gpu.queue, &with.params, &with.grads).unwrap();
            drop(dropped);
            assert_eq!(with.step(&random(t, 10)), without.step(&random(t, 10)));
        }
        assert_eq!(with.bits(), without.bits());
    }
}

#[test]
fn a_step_reads_its_own_learning_rate_even_when_submitted_late() {
    let gpu = device::gpu();
    let layout = Layout::flat(4).unwrap();
    let builder = Optimizer::builder(Sgd::default()).schedule(Schedule::warmup_cosine(1.0, 4, 8));
    let mut trainer = Trainer::new(gpu, builder, &layout, &[0.0; 4]);
    gpu.queue.write_buffer(&trainer.grads, 0, bytemuck::cast_slice(&[-1f32; 4]));
    let mut encoders: Vec<_> = (0..4).map(|_| encoder(gpu)).collect();
    for encoder in &mut encoders {
        trainer.optimizer.step(encoder, &gpu.queue, &trainer.params, &trainer.grads).unwrap();
    }
    let mut sum = 0.0;
    for (encoder, lr) in encoders.into_iter().rev().zip([0.75, 0.5, 0.25, 0.0]) {
        assert_eq!(finish(gpu, &trainer.optimizer, encoder).lr, lr);
        sum += lr;
        assert_eq!(trainer.params(), [sum; 4]);
    }
}

#[test]
fn groups_have_their_own_rate_decay_and_frozen_elements() {
    // Boundaries inside quads, a run of one element, a frozen gap, padding, and whole blocks.
    let layout = Layout::builder()
        .tensor("a", &[70])
        .tensor("b", &[9, 1000])
        .group("slow")
        .tensor("c", &[3])
        .range(3..4, "still")
        .range(1021..1030, "still")
        .range(2000..2001, "undecayed")
        .range(4098..6146, "undecayed")
        .build()
        .unwrap();
    let len = layout.len();
    let owner = |i: usize| -> Option<(f64, f64)> {
        let inside = layout.tensors().iter().find(|tensor| tensor.range().contains(&i))?;
        match i {
            3 | 1021..1030 => None,
            2000 | 4098..6146 => Some((1.0, 0.0)),
            _ if inside.group() == Some("slow") => Some((0.25, 0.5)),
            _ => Some((1.0, 0.125)),
        }
    };
    let rule = Sgd::default().with_lr(0.5).with_momentum(0.5).with_weight_decay(0.125);
    let builder = Optimizer::builder(rule)
        .group("slow", GroupOptions::default().with_lr_scale(0.25).with_weight_decay(0.5))
        .group("undecayed", GroupOptions::default().with_weight_decay(0.0))
        .group("still", GroupOptions::default().frozen());
    for clip in [None, Some(f64::INFINITY)] {
        let builder = clip.into_iter().fold(builder.clone(), |builder, max| builder.clip(Clip::global_norm(max)));
        let params = random(1, len);
        let mut grads = random(2, len);
        let live = |i: usize| owner(i).is_some();
        let norm = global_norm(&(0..len).map(|i| if live(i) { grads[i] } else { 0.0 }).collect::<Vec<_>>());
        // What is not live is not looked at either.
        (0..len).filter(|&i| !live(i)).for_each(|i| grads[i] = f32::NAN);
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
        let mut twin = builder.build_cpu(&layout).unwrap();
        let mut twin_params = params.clone();
        let stats = trainer.step(&grads);
        assert_same_decision(&stats, &twin.step(&mut twin_params, &grads).unwrap());
        assert_eq!((stats.step, stats.first_nonfinite), (1, None));
        assert_eq!(stats.grad_norm.is_some(), clip.is_some());
        if let Some(measured) = stats.grad_norm {
            assert_relative_eq!(f64::from(measured), norm, max_relative = 1e-6);
        }
        let engines = [
            ("device", trainer.params(), trainer.state("momentum_buffer")),
            ("CPU", twin_params, twin.state("momentum_buffer").unwrap().to_vec()),
        ];
        for (engine, updated, buffer) in engines {
            for i in 0..len {
                let Some((lr_scale, weight_decay)) = owner(i) else {
                    assert_eq!(updated[i].to_bits(), params[i].to_bits(), "{engine}, frozen element {i}");
                    assert_eq!(buffer[i].to_bits(), 0, "{engine}, state of frozen element {i}");
                    continue;
                };
                let param = f64::from(params[i]);
                let decayed = f64::from(grads[i]) + weight_decay * param;
                let expected = param - 0.5 * lr_scale * decayed;
                let tolerance = f64::from(f32::EPSILON) * (param.abs() + f64::from(grads[i].abs()));
                assert!((f64::from(updated[i]) - expected).abs() <= 2.0 * tolerance, "{engine}, element {i}");
                assert!((f64::from(buffer[i]) - decayed).abs() <= 2.0 * tolerance, "{engine}, state of {i}");
            }
        }
    }
}

#[test]
fn the_gradient_scale_divides_gradients_and_norm() {
    let gpu = device::gpu();
    let layout = Layout::flat(300).unwrap();
    let builder = Optimizer::builder(AdamW::default()).clip(Clip::global_norm(5.0));
    let grads = random(2, 300);
    let scaled: Vec<f32> = grads.iter().map(|grad| grad * 1024.0).collect();
    let mut plain = Trainer::new(gpu, builder.clone(), &layout, &random(1, 300));
    let expected = plain.step(&grads);

    let mut by_value = Trainer::new(gpu, builder.clone(), &layout, &random(1, 300));
    by_value.optimizer.set_grad_scale(1024.0).unwrap();
    assert_eq!(by_value.step(&scaled), expected);
    assert_eq!(by_value.bits(), plain.bits());

    let mut by_buffer = Trainer::new(gpu, builder.clone(), &layout, &random(1, 300));
    let scale = device::upload(gpu, &[0.0]);
    by_buffer.optimizer.set_grad_scale(&scale).unwrap();
    // Read when the step executes, not when it is recorded.
    gpu.queue.write_buffer(&scale, 0, bytemuck::bytes_of(&1024f32));
    assert_eq!(by_buffer.step(&scaled), expected);
    assert_eq!(by_buffer.bits(), plain.bits());
    // Back to a value: the buffer is no longer read.
    gpu.queue.write_buffer(&scale, 0, bytemuck::bytes_of(&7f32));
    by_buffer.optimizer.set_grad_scale(1024.0).unwrap();
    assert_eq!(by_buffer.step(&scaled), by_value.step(&scaled));
    assert_eq!(by_buffer.bits(), by_value.bits());

    let mut cpu = builder.build_cpu(&layout).unwrap();
    cpu.set_grad_scale(1024.0).unwrap();
    let mut params = random(1, 300);
    let stats = cpu.step(&mut params, &scaled).unwrap();
    assert_relative_eq!(stats.grad_norm.unwrap(), expected.grad_norm.unwrap(), max_relative = 1e-6);
}

/// Unscaled, these gradients or their norm would exceed f32; clipped, they are ordinary numbers.
#[test]
fn clipping_comes_before_overflow() {
    let layout = Layout::flat(2).unwrap();
    let cases = [(0.1f32, 1e38f32), (1e-15, 1e25), (1.0, 3e38), (1e-30, 1e30), (1e30, 1e38), (1e-36, 1e-30)];
    let cases = cases.into_iter().chain([(1e30, 1e31), (1.0, 1.0)]);
    for (maximize, (scale, grad)) in cases.flat_map(|case| [(false, case), (true, case)]) {
        let rule = Sgd::default().with_lr(1.0).with_maximize(maximize);
        let builder = Optimizer::builder(rule).clip(Clip::global_norm(1.0));
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0; 2]);
        trainer.optimizer.set_grad_scale(scale).unwrap();
        let mut cpu = builder.clone().build_cpu(&layout).unwrap();
        cpu.set_grad_scale(scale).unwrap();
        let mut params = [0.0; 2];
        let engines = [
            (trainer.step(&[grad, -grad]), trainer.params()),
            (cpu.step(&mut params, &[grad, -grad]).unwrap(), params.to_vec()),
        ];
        let unscaled = f64::from(grad) / f64::from(scale);
        let sign = if maximize { -1.0 } else { 1.0 };
        let expected = sign * unscaled * clip_coefficient(unscaled * 2f64.sqrt(), 1.0);
        for (stats, params) in engines {
            assert_eq!((stats.step, stats.skipped), (1, 0));
            assert_relative_eq!(f64::from(params[0]), -expected, max_relative = 2e-6);
            assert_relative_eq!(f64::from(params[1]), expected, max_relative = 2e-6);
        }
    }
}

#[test]
fn a_useless_scale_on_the_device_refuses_the_step() {
    let gpu = device::gpu();
    let layout = Layout::flat(4).unwrap();
    let scale = device::upload(gpu, &[0.0]);
    for clip in [false, true] {
        let builder = Optimizer::builder(Sgd::default());
        let builder = if clip { builder.clip(Clip::global_norm(1.0)) } else { builder };
        let mut trainer = Trainer::new(gpu, builder, &layout, &[1.0; 4]);
        trainer.optimizer.set_grad_scale(&scale).unwrap();
        let before = trainer.bits();
        let useless = [0.0, -0.0, -2.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 2f32.powi(127)];
        for (refused, value) in useless.into_iter().enumerate() {
            gpu.queue.write_buffer(&scale, 0, bytemuck::bytes_of(&value));
            let stats = trainer.step(&[1.0, 0.0, -1.0, 2.0]);
            assert_eq!((stats.step, stats.skipped), (0, refused as u64 + 1), "{value}");
            assert_eq!((stats.invalid_grad_scale, stats.first_nonfinite), (true, None), "{value}");
            assert_eq!(trainer.bits(), before, "{value}");
        }
        for value in [2.0, f32::MIN_POSITIVE, 2f32.powi(126)] {
            gpu.queue.write_buffer(&scale, 0, bytemuck::bytes_of(&value));
            assert!(!trainer.step(&[1e-20, 0.0, 0.0, 0.0]).invalid_grad_scale, "{value}");
        }
    }
}

/// Encoders may be submitted in another order than they were recorded in, also across a change of the step's kind.
#[test]
fn a_bare_step_may_run_after_one_that_was_decided_on() {
    let gpu = device::gpu();
    let layout = Layout::flat(4).unwrap();
    let builder = Optimizer::builder(AdamW::default().with_lr(1.0).with_weight_decay(0.0));
    let mut trainer = Trainer::new(gpu, builder, &layout, &[0.0; 4]);
    let mut bad = encoder(gpu);
    let nan = device::upload(gpu, &[1.0, f32::NAN, 1.0, 1.0]);
    let spoiled = device::upload(gpu, &[0.0; 4]);
    trainer.optimizer.step(&mut bad, &gpu.queue, &spoiled, &nan).unwrap();
    let mut bare: Vec<_> = (0..2).map(|_| encoder(gpu)).collect();
    for encoder in &mut bare {
        trainer.optimizer.step(encoder, &gpu.queue, &trainer.params, &trainer.grads).unwrap();
    }
    trainer.optimizer.set_grad_scale(1.0).unwrap();
    let mut decided = encoder(gpu);
    trainer.optimizer.step(&mut decided, &gpu.queue, &trainer.params, &trainer.grads).unwrap();
    gpu.queue.write_buffer(&trainer.grads, 0, bytemuck::cast_slice(&[0.25f32; 4]));
    let mut stats = vec![finish(gpu, &trainer.optimizer, decided)];
    stats.extend(bare.into_iter().map(|encoder| finish(gpu, &trainer.optimizer, encoder)));
    assert_eq!(stats.iter().map(|stats| stats.step).collect::<Vec<_>>(), [1, 2, 3]);
    // With a constant gradient and exact corrections each step moves by lr.
    assert_relative_eq!(trainer.params()[0], -3.0, max_relative = 1e-5);
    assert_eq!(finish(gpu, &trainer.optimizer, bad).first_nonfinite, Some(1));
    assert_eq!(trainer.step(&[0.25; 4]).first_nonfinite, None);
}

#[test]
fn a_gradient_scale_makes_a_bare_optimizer_skip() {
    let layout = Layout::flat(8).unwrap();
    let mut trainer = Trainer::new(device::gpu(), Optimizer::builder(Lion::default()), &layout, &[1.0; 8]);
    assert_eq!(trainer.step(&[1.0; 8]).grad_norm, None);
    trainer.optimizer.set_grad_scale(2.0).unwrap();
    let before = trainer.bits();
    let stats = trainer.step(&[f32::INFINITY; 8]);
    assert_eq!((stats.step, stats.skipped), (1, 1));
    assert_eq!(trainer.bits(), before);
    // The step count carries over from the bare steps.
    assert_eq!(trainer.step(&[1.0; 8]).step, 2);
}

#[test]
fn asking_for_statistics_changes_nothing_and_never_blocks() {
    let gpu = device::gpu();
    let layout = Layout::flat(100).unwrap();
    let mut trainer = Trainer::new(gpu, clipped(), &layout, &random(1, 100));
    let mut recorded = encoder(gpu);
    trainer.optimizer.step(&mut recorded, &gpu.queue, &trainer.params, &trainer.grads).unwrap();
    let mut pending = trainer.optimizer.stats(&mut recorded);
    assert!(pending.try_take().is_none(), "nothing was submitted yet");
    trainer.optimizer.step(&mut recorded, &gpu.queue, &trainer.params, &trainer.grads).unwrap();
    let mut later = trainer.optimizer.stats(&mut recorded);
    gpu.queue.submit([recorded.finish()]);
    gpu.device.poll(PollType::wait_indefinitely()).unwrap();
    assert_eq!(pending.try_take().unwrap().unwrap().step, 1);
    assert!(pending.try_take().is_none(), "statistics are given out once");
    assert_eq!(later.try_take().unwrap().unwrap().step, 2);
}

#[test]
fn statistics_of_a_dropped_encoder_are_an_error() {
    let gpu = device::gpu();
    let layout = Layout::flat(4).unwrap();
    let trainer = Trainer::new(gpu, clipped(), &layout, &[0.0; 4]);
    let mut dropped = encoder(gpu);
    let pending = trainer.optimizer.stats(&mut dropped);
    drop(dropped);
    assert!(matches!(pollster::block_on(pending), Err(Error::StatsDropped)));
}

#[test]
fn bias_corrections_reach_the_update_over_many_steps() {
    // With a constant gradient the corrected averages are g and g², and each step moves by lr exactly.
    let layout = Layout::flat(4).unwrap();
    for builder in [
        Optimizer::builder(AdamW::default().with_weight_decay(0.0).with_lr(0.5)),
        clipped().nonfinite(NonFinite::Propagate),
    ] {
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0; 4]);
        let mut twin = builder.build_cpu(&layout).unwrap();
        let mut twin_params = [0.0; 4];
        for _ in 0..40 {
            trainer.step(&[0.25; 4]);
            twin.step(&mut twin_params, &[0.25; 4]).unwrap();
        }
        for (got, twin) in trainer.params().into_iter().zip(twin_params) {
            assert_relative_eq!(got, twin, max_relative = 1e-6);
        }
    }
    let mut trainer = Trainer::new(
        device::gpu(),
        Optimizer::builder(AdamW::default().with_weight_decay(0.0).with_lr(0.5)),
        &layout,
        &[0.0; 4],
    );
    for t in 1..=40 {
        trainer.step(&[0.25; 4]);
        assert_relative_eq!(trainer.params()[0], -0.5 * t as f32, max_relative = 1e-5);
    }
}

#[test]
fn reruns_are_bit_identical() {
    const LEN: usize = 50_001;
    let layout = Layout::flat(LEN).unwrap();
    let run = || {
        let mut trainer = Trainer::new(device::gpu(), clipped(), &layout, &random(1, LEN));
        let stats: Vec<Stats> = (0..5).map(|t| trainer.step(&random(t, LEN))).collect();
        (trainer.bits(), stats)
    };
    assert_eq!(run(), run());
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    const LEN: usize = 400_003;
    let layout = Layout::flat(LEN).unwrap();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut optimizer = clipped().build_cpu(&layout).unwrap();
            let mut params = random(1, LEN);
            optimizer.step(&mut params, &random(2, LEN)).unwrap();
            params
        })
    };
    assert_same_bits(&run(1), &run(5), "threads");
}

#[test]
fn an_empty_flat_space_counts_steps_and_touches_nothing() {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("nothing", &[0, 7]).build().unwrap();
    for builder in [Optimizer::builder(AdamW::default()), clipped()] {
        let mut optimizer = builder.clone().build(&gpu.device, &layout).unwrap();
        let (params, grads) = (storage(gpu, 0, BufferUsages::STORAGE), storage(gpu, 0, BufferUsages::STORAGE));
        let mut recorded = encoder(gpu);
        optimizer.step(&mut recorded, &gpu.queue, &params, &grads).unwrap();
        optimizer.step(&mut recorded, &gpu.queue, &params, &grads).unwrap();
        let stats = finish(gpu, &optimizer, recorded);
        let mut cpu = builder.build_cpu(&layout).unwrap();
        cpu.step(&mut [], &[]).unwrap();
        assert_eq!(stats, cpu.step(&mut [], &[]).unwrap());
        assert_eq!((stats.step, stats.skipped, stats.first_nonfinite), (2, 0, None));
    }
}
