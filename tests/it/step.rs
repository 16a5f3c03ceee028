//! The step around a rule: counting, order, groups, statistics.

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{Trainer, assert_same_decision, device, encoder, finish, step_in_parts, storage};
use crate::oracle::global_norm;
use approx::assert_relative_eq;
use wgpu_optim::wgpu::{BufferUsages, PollType};
use wgpu_optim::{
    Adadelta, AdamW, Clip, Error, GroupOptions, Layout, Lion, NAdam, NonFinite, Optimizer, OptimizerBuilder, Schedule,
    Sgd, SignSgd, Stats,
};

fn clipped() -> OptimizerBuilder {
    Optimizer::builder(AdamW::default().with_lr(0.01)).clip(Clip::global_norm(1.0))
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
            joint.optimizer.step(&mut encoder, &joint.params, buffer).unwrap();
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

/// Optimizers in turn, each with a control block, states and uniforms of its own.
#[test]
fn steps_of_several_optimizers_in_one_encoder_act_one_by_one() {
    const LEN: usize = 9001;
    let gpu = device::gpu();
    let layout = Layout::flat(LEN).unwrap();
    let schedule = Schedule::warmup_cosine(0.1, 2, 9);
    let builders = [
        Optimizer::builder(AdamW::default()).schedule(schedule.clone()),
        Optimizer::builder(Lion::default()).schedule(schedule).clip(Clip::global_norm(1.0)),
        Optimizer::builder(Sgd::default().with_momentum(0.9)).on_nonfinite(NonFinite::Skip),
    ];
    let trainers = || {
        let new =
            |(seed, builder): (u64, &OptimizerBuilder)| Trainer::new(gpu, builder.clone(), &layout, &random(seed, LEN));
        (1..).zip(&builders).map(new).collect::<Vec<_>>()
    };
    let (mut joint, mut single) = (trainers(), trainers());
    let grads = |step: usize, of: usize| {
        let mut grads = random((10 + 3 * step + of) as u64, LEN);
        // The last optimizer skips its second step.
        if (step, of) == (1, 2) {
            grads[LEN - 1] = f32::NAN;
        }
        grads
    };
    let mut encoder = encoder(gpu);
    for step in 0..3 {
        for (of, trainer) in joint.iter_mut().enumerate() {
            let grads = device::upload(gpu, &grads(step, of));
            trainer.optimizer.step(&mut encoder, &trainer.params, &grads).unwrap();
        }
    }
    gpu.queue.submit([encoder.finish()]);
    for (of, (joint, single)) in joint.iter().zip(&mut single).enumerate() {
        let last = (0..3).map(|step| single.step(&grads(step, of))).last().unwrap();
        assert_eq!(finish(gpu, &joint.optimizer, crate::common::encoder(gpu)), last);
        assert_eq!((last.step, last.skipped), if of == 2 { (2, 1) } else { (3, 0) });
        assert_eq!(joint.bits(), single.bits(), "optimizer {of}");
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
            with.optimizer.step(&mut dropped, &with.params, &with.grads).unwrap();
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
        trainer.optimizer.step(encoder, &trainer.params, &trainer.grads).unwrap();
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
    // Boundaries inside quads, runs of one element, also in the last quad before 4,096, a frozen gap, padding, and whole blocks.
    let layout = Layout::builder()
        .tensor("a", &[70])
        .tensor("b", &[9, 1000])
        .group("slow")
        .tensor("c", &[3])
        .range(3..4, "still")
        .range(1021..1030, "still")
        .range(2000..2001, "undecayed")
        .range(4094..4095, "undecayed")
        .range(4098..6146, "undecayed")
        .build()
        .unwrap();
    groups_are_kept_apart(&layout, |i, group| match i {
        3 | 1021..1030 => Some("still"),
        2000 | 4094 | 4098..6146 => Some("undecayed"),
        _ => group,
    });
}

#[test]
fn tensors_have_their_own_rate_and_decay_or_are_frozen() {
    // Ends in every place of a quad, blocks of 64 elements that are full or have one alone, frozen ones at the end and between.
    let layout = Layout::builder()
        .tensor("a", &[70])
        .tensor("b", &[9, 1000])
        .group("slow")
        .tensor("c", &[8192])
        .group("undecayed")
        .tensor("d", &[64])
        .group("still")
        .tensor("e", &[129])
        .group("undecayed")
        .tensor("f", &[3])
        .tensor("g", &[75])
        .group("still");
    // Spans whose numbers have more than one digit to the base of 128.
    let layout = (0..150).fold(layout, |layout, i| {
        layout.tensor(format!("small {i}"), &[3]).group(["undecayed", "slow", "still"][i % 3])
    });
    groups_are_kept_apart(&layout.build().unwrap(), |_, group| group);
}

#[test]
fn padding_and_frozen_tensors_lie_between_those_of_one_kind() {
    let layout = Layout::builder()
        .tensor("a", &[70])
        .tensor("b", &[9, 1000])
        .tensor("c", &[66])
        .group("still")
        .tensor("d", &[8192])
        .tensor("e", &[129])
        .build()
        .unwrap();
    groups_are_kept_apart(&layout, |_, group| group);
}

/// Elements of the groups `slow`, `undecayed` and `still`, and of none. `group_of` gives that of an element, from its number
/// and its tensor's group.
fn groups_are_kept_apart<'a>(layout: &'a Layout, group_of: impl Fn(usize, Option<&'a str>) -> Option<&'a str>) {
    let len = layout.len();
    let owner = |i: usize| -> Option<(f64, f64)> {
        let inside = layout.tensors().iter().find(|tensor| tensor.range().contains(&i))?;
        match group_of(i, inside.group()) {
            Some("still") => None,
            Some("slow") => Some((0.25, 0.5)),
            Some("undecayed") => Some((1.0, 0.0)),
            _ => Some((1.0, 0.125)),
        }
    };
    let rule = Sgd::default().with_lr(0.5).with_momentum(0.5).with_weight_decay(0.125);
    let options = [
        ("slow", GroupOptions::default().with_lr_scale(0.25).with_weight_decay(0.5)),
        ("undecayed", GroupOptions::default().with_weight_decay(0.0)),
        ("still", GroupOptions::default().frozen()),
    ];
    let options = options.into_iter().filter(|(name, _)| layout.groups().iter().any(|group| group == name));
    let builder = options.fold(Optimizer::builder(rule), |builder, (name, options)| builder.group(name, options));
    for clip in [None, Some(f64::INFINITY)] {
        let builder = clip.into_iter().fold(builder.clone(), |builder, max| builder.clip(Clip::global_norm(max)));
        let params = random(1, len);
        let mut grads = random(2, len);
        let active = |i: usize| owner(i).is_some();
        let norm = global_norm(&(0..len).map(|i| if active(i) { grads[i] } else { 0.0 }).collect::<Vec<_>>());
        // Gradients that are not active are not looked at either.
        (0..len).filter(|&i| !active(i)).for_each(|i| grads[i] = f32::NAN);
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), layout, &params);
        let mut reference = builder.clone().build_cpu(layout).unwrap();
        let mut reference_params = params.clone();
        let stats = trainer.step(&grads);
        assert_same_decision(&stats, &reference.step(&mut reference_params, &grads).unwrap());
        assert_eq!((stats.step, stats.first_nonfinite), (1, None));
        assert_eq!(stats.grad_norm.is_some(), clip.is_some());
        if let Some(measured) = stats.grad_norm {
            assert_relative_eq!(f64::from(measured), norm, max_relative = 1e-6);
        }
        let engines = [
            ("device", trainer.params(), trainer.state("momentum_buffer")),
            ("CPU", reference_params, reference.state("momentum_buffer").unwrap().as_f32().unwrap().to_vec()),
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
        // Chunks that begin and end within a block of 64 elements, within a quad, and with a block that is no pair's first.
        let gpu = device::gpu();
        for cut in [96, 300, 301, 302, 320, 9_003] {
            let parts = (&params[..], &grads[..]);
            let (_, updated) = step_in_parts(gpu, builder.clone(), layout, parts, &[0, cut, len], 0);
            assert_same_bits(&updated, &trainer.params(), &format!("two buffers, cut at {cut}"));
            let (params, grads) = (device::upload(gpu, &params), device::upload(gpu, &grads));
            let at = 4 * cut as u64;
            let [params_cut, grads_cut] = [&params, &grads].map(|buffer| [buffer.slice(..at), buffer.slice(at..)]);
            let mut optimizer = device::build(gpu, builder.clone(), layout).unwrap();
            let mut recorded = encoder(gpu);
            optimizer.step(&mut recorded, &params_cut, &grads_cut).unwrap();
            finish(gpu, &optimizer, recorded);
            assert_same_bits(&device::download(gpu, &params), &trainer.params(), &format!("one buffer, cut at {cut}"));
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
    trainer.optimizer.step(&mut bad, &spoiled, &nan).unwrap();
    let mut single_pass: Vec<_> = (0..2).map(|_| encoder(gpu)).collect();
    for encoder in &mut single_pass {
        trainer.optimizer.step(encoder, &trainer.params, &trainer.grads).unwrap();
    }
    trainer.optimizer.set_grad_scale(1.0).unwrap();
    let mut decided = encoder(gpu);
    trainer.optimizer.step(&mut decided, &trainer.params, &trainer.grads).unwrap();
    gpu.queue.write_buffer(&trainer.grads, 0, bytemuck::cast_slice(&[0.25f32; 4]));
    let mut stats = vec![finish(gpu, &trainer.optimizer, decided)];
    stats.extend(single_pass.into_iter().map(|encoder| finish(gpu, &trainer.optimizer, encoder)));
    assert_eq!(stats.iter().map(|stats| stats.step).collect::<Vec<_>>(), [1, 2, 3]);
    // With a constant gradient and exact corrections each step moves by lr.
    assert_relative_eq!(trainer.params()[0], -3.0, max_relative = 1e-5);
    assert_eq!(finish(gpu, &trainer.optimizer, bad).first_nonfinite, Some(1));
    assert_eq!(trainer.step(&[0.25; 4]).first_nonfinite, None);
}

/// Whichever of the two words for it a single-pass step has written: a step that was decided on clears both.
#[test]
fn a_bad_gradient_of_a_bare_step_is_forgotten_after_a_step_that_was_decided_on() {
    let gpu = device::gpu();
    let layout = Layout::flat(4).unwrap();
    let bad = device::upload(gpu, &[1.0, f32::NAN, 1.0, 1.0]);
    for steps_before in 0..2 {
        let mut trainer = Trainer::new(gpu, Optimizer::builder(AdamW::default()), &layout, &[0.0; 4]);
        let record = |trainer: &mut Trainer<'_>, grads: Option<&_>| {
            let mut encoder = encoder(gpu);
            let grads = grads.unwrap_or(&trainer.grads);
            trainer.optimizer.step(&mut encoder, &trainer.params, grads).unwrap();
            encoder
        };
        for _ in 0..steps_before {
            trainer.step(&[1.0; 4]);
        }
        let (spoiled, single_pass) = (record(&mut trainer, Some(&bad)), record(&mut trainer, None));
        trainer.optimizer.set_grad_scale(1.0).unwrap();
        let decided = record(&mut trainer, None);
        let stats = [spoiled, decided, single_pass].map(|encoder| finish(gpu, &trainer.optimizer, encoder));
        assert_eq!(stats.map(|stats| stats.first_nonfinite), [Some(1), None, None], "after {steps_before} steps");
        // Nor is the norm that the decision was made on passed on.
        assert_eq!(stats.map(|stats| stats.grad_norm.is_some()), [false, true, false]);
    }
}

#[test]
fn bare_steps_name_the_bad_gradients_of_their_own_and_count_on() {
    let gpu = device::gpu();
    let layout = Layout::flat(4).unwrap();
    let builder = Optimizer::builder(Sgd::default());
    let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &[0.0; 4]);
    for t in 1..=6 {
        let first_nonfinite = (t == 1 || t == 4).then_some(2);
        let grads = [1.0, 1.0, if first_nonfinite.is_some() { f32::NAN } else { 1.0 }, 1.0];
        assert_eq!(trainer.step(&grads).first_nonfinite, first_nonfinite, "step {t}");
    }
    // Recorded before the scale makes the other skip, and run after it.
    let mut trainer = Trainer::new(gpu, builder, &layout, &[0.0; 4]);
    let mut single_pass = encoder(gpu);
    trainer.optimizer.step(&mut single_pass, &trainer.params, &trainer.grads).unwrap();
    trainer.optimizer.set_grad_scale(1.0).unwrap();
    assert_eq!(trainer.step(&[f32::NAN; 4]).skipped, 1);
    let stats = finish(gpu, &trainer.optimizer, single_pass);
    assert_eq!((stats.step, stats.skipped), (1, 1));
}

#[test]
fn scalars_are_carried_on_by_either_kind_of_step() {
    let layout = Layout::flat(4).unwrap();
    let single_pass = Optimizer::builder(NAdam::default());
    let decided = single_pass.clone().clip(Clip::global_norm(f64::INFINITY));
    let [single_pass, decided] = [single_pass, decided].map(|builder| {
        let mut trainer = Trainer::new(device::gpu(), builder, &layout, &[0.5; 4]);
        for t in 0..5 {
            trainer.step(&random(t, 4));
        }
        trainer.bits()
    });
    assert_eq!(single_pass, decided);
}

#[test]
fn asking_for_statistics_changes_nothing_and_never_blocks() {
    let gpu = device::gpu();
    let layout = Layout::flat(100).unwrap();
    let mut trainer = Trainer::new(gpu, clipped(), &layout, &random(1, 100));
    let mut recorded = encoder(gpu);
    trainer.optimizer.step(&mut recorded, &trainer.params, &trainer.grads).unwrap();
    let mut pending = trainer.optimizer.stats(&mut recorded);
    assert!(pending.try_take().is_none(), "nothing was submitted yet");
    trainer.optimizer.step(&mut recorded, &trainer.params, &trainer.grads).unwrap();
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
        clipped().on_nonfinite(NonFinite::Propagate),
    ] {
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0; 4]);
        let mut reference = builder.build_cpu(&layout).unwrap();
        let mut reference_params = [0.0; 4];
        for _ in 0..40 {
            trainer.step(&[0.25; 4]);
            reference.step(&mut reference_params, &[0.25; 4]).unwrap();
        }
        for (got, reference) in trainer.params().into_iter().zip(reference_params) {
            assert_relative_eq!(got, reference, max_relative = 1e-6);
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
        let mut optimizer = device::build(gpu, builder.clone(), &layout).unwrap();
        let (params, grads) = (storage(gpu, 0, BufferUsages::STORAGE), storage(gpu, 0, BufferUsages::STORAGE));
        let mut recorded = encoder(gpu);
        optimizer.step(&mut recorded, &params, &grads).unwrap();
        optimizer.step(&mut recorded, &params, &grads).unwrap();
        let stats = finish(gpu, &optimizer, recorded);
        let mut cpu = builder.build_cpu(&layout).unwrap();
        cpu.step(&mut [0.0; 0], &[0.0; 0]).unwrap();
        assert_eq!(stats, cpu.step(&mut [0.0; 0], &[0.0; 0]).unwrap());
        assert_eq!((stats.step, stats.skipped, stats.first_nonfinite), (2, 0, None));
    }
}

/// wgpu's devices compare as equal where they are the first of their instances.
#[test]
fn optimizers_on_devices_of_two_instances_keep_apart() {
    let layout = Layout::flat(3).unwrap();
    let gpus = [(); 2].map(|()| pollster::block_on(wgpu_optim::Gpu::new()).unwrap());
    let trainer = |gpu, builder| Trainer::new(gpu, builder, &layout, &[1.0; 3]);
    let mut adamw = trainer(&gpus[0], Optimizer::builder(AdamW::default().with_lr(0.5).with_weight_decay(0.0)));
    let mut lion = trainer(&gpus[1], Optimizer::builder(Lion::default().with_lr(0.25)));
    let mut sgd = trainer(&gpus[1], Optimizer::builder(Sgd::default().with_lr(0.125)));
    for (trainer, expected) in [(&mut adamw, 0.5), (&mut lion, 0.75), (&mut sgd, 0.75)] {
        trainer.step(&[2.0; 3]);
        trainer.params().iter().for_each(|param| assert_relative_eq!(*param, expected, max_relative = 1e-6));
    }
}

#[test]
fn optimizers_that_share_pipelines_step_as_if_alone() {
    let gpu = device::gpu();
    let shared = wgpu_optim::SharedPipelines::new(&gpu.device);
    let adamw = |lr| Optimizer::builder(AdamW::default().with_lr(lr));
    // Rules with the same constants, namely none, and kernels for both alignments.
    let others = [Optimizer::builder(SignSgd::default()), Optimizer::builder(Adadelta::default())];
    for builder in [adamw(0.125), adamw(0.5)].into_iter().chain(others) {
        for len in [5, 8] {
            let layout = Layout::flat(len).unwrap();
            let (params, grads) = (random(1, len), random(2, len));
            let mut alone = Trainer::new(gpu, builder.clone(), &layout, &params);
            alone.optimizer = builder.clone().build(&gpu.device, &gpu.queue, &layout).unwrap();
            alone.step(&grads);
            let mut sharing = Trainer::new(gpu, builder.clone(), &layout, &params);
            sharing.optimizer = builder.clone().build_shared(&shared, &gpu.queue, &layout).unwrap();
            sharing.step(&grads);
            assert_eq!(alone.bits(), sharing.bits());
            assert_ne!(alone.params(), params);
        }
    }
}
