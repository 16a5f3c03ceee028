//! Sharpness-aware minimization: steps with the gradient at a perturbed point.

use crate::common::both::Both;
use crate::common::numbers::{assert_close, assert_same_bits, random, ulps};
use crate::common::{Trainer, bf16, cpu_bits, device, device_with, encoder, finish, repository, rule};
use serde::Deserialize;
use std::io::Cursor;
use wgpu_optim::checkpoint::{self, CheckpointError, LoadOptions};
use wgpu_optim::clip::GlobalNorm;
use wgpu_optim::wgpu::{BufferSlice, CommandEncoder};
use wgpu_optim::{
    Clip, Dtype, Ema, Error, Gpu, GroupOptions, Layout, Lookahead, NonFinite, Optimizer, OptimizerBuilder, RuleConfig,
    Sam, ScheduleFreeSgd, Sgd,
};

const KINDS: [fn() -> Sam; 2] = [|| Sam::new(0.5), || Sam::adaptive(2.0, 0.01)];

#[derive(Deserialize)]
struct Vectors {
    start: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    rule: RuleConfig,
    sam: Sam,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    grads: Vec<f32>,
    perturbed: Vec<f64>,
    second: Vec<f32>,
    params: Vec<f64>,
}

#[test]
fn both_engines_follow_optax_and_the_paper() {
    let text = std::fs::read_to_string(repository().join("tests/golden/sam.json")).unwrap();
    let Vectors { start, cases } = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 4);
    for Case { rule, sam, steps } in cases {
        let what = format!("{rule:?} {sam:?}");
        let mut both = Both::new(&rule.builder().sam(sam), &Layout::flat(start.len()).unwrap(), &start);
        assert_eq!(steps.len(), 4);
        for Step { grads, perturbed, second, params } in steps {
            both.perturb(&grads);
            both.params().iter().for_each(|found| assert_close(&what, found, &perturbed, 2e-6));
            both.step(&second);
            both.params().iter().for_each(|found| assert_close(&what, found, &params, 2e-6));
        }
    }
}

/// Odd lengths, an empty tensor, groups, frozen elements, more than a tile.
fn layout() -> Layout {
    let builder = Layout::builder().packed().tensor("a", &[17, 30]).tensor("b", &[31]).group("slow");
    builder.tensor("none", &[0]).tensor("still", &[50]).group("still").tensor("c", &[91, 93]).build().unwrap()
}

fn is_still(element: usize) -> bool {
    (541..591).contains(&element)
}

fn grouped(builder: OptimizerBuilder) -> OptimizerBuilder {
    let builder = builder.group("slow", GroupOptions::default().with_lr_scale(0.5));
    builder.group("still", GroupOptions::default().frozen())
}

/// The perturbed parameters in f64.
fn exact(sam: &Sam, sign: f64, params: &[f32], grads: &[f32]) -> Vec<f64> {
    let scale = |param: f32| sam.eta.map_or(1.0, |eta| f64::from(param.abs()) + f64::from(eta as f32));
    let scaled = |i: usize| if is_still(i) { 0.0 } else { scale(params[i]) * f64::from(grads[i]) };
    let norm = (0..params.len()).map(|i| scaled(i).powi(2)).sum::<f64>().sqrt();
    let moved = |i: usize| f64::from(params[i]) + sign * sam.rho * scale(params[i]) * scaled(i) / norm;
    (0..params.len()).map(moved).collect()
}

#[test]
fn perturbations_have_the_length_rho() {
    let layout = layout();
    let (params, grads) = (random(1, layout.len()), random(2, layout.len()));
    for (sam, maximize) in KINDS.into_iter().flat_map(|sam| [(sam(), false), (sam(), true)]) {
        // Clipping and gradient scale concern the second gradient alone.
        let clip = GlobalNorm::new(1e-3).with_norm_type(1.0);
        let builder = Optimizer::builder(Sgd::default().with_maximize(maximize)).clip(clip);
        let mut both = Both::new(&grouped(builder.sam(sam)), &layout, &params);
        both.on_cpu.set_grad_scale(64.0).unwrap();
        both.on_device.optimizer.set_grad_scale(64.0).unwrap();
        both.perturb(&grads);
        let exact = exact(&sam, if maximize { -1.0 } else { 1.0 }, &params, &grads);
        for (engine, found) in ["CPU", "device"].into_iter().zip(both.params()) {
            for i in 0..params.len() {
                let moved = (exact[i] - f64::from(params[i])).abs();
                let apart = ulps(found[i], exact[i], moved.max(f64::from(params[i].abs())).max(exact[i].abs()));
                // Two for norm, root and quotient, one for the products, half for the sum; adaptive two more products.
                assert!(
                    apart <= if sam.eta.is_some() { 5.0 } else { 3.5 },
                    "{engine}, {sam:?}, element {i}: {} for {}",
                    found[i],
                    exact[i]
                );
                assert!(!is_still(i) || found[i].to_bits() == params[i].to_bits(), "{engine}, frozen element {i}");
            }
        }
        // Both sums have the same order.
        let [on_cpu, on_device] = both.params();
        let apart = on_cpu.iter().zip(&on_device).filter(|(cpu, device)| cpu.to_bits() != device.to_bits()).count();
        assert!(apart * 50 <= params.len(), "{sam:?}: the engines differ in {apart} elements");
    }
}

/// The step with the second gradient is that of an optimizer which never perturbs, whatever the rule and around it.
#[test]
fn a_step_starts_from_the_stored_parameters() {
    let layout = layout();
    for name in ["sgd", "adamw", "lion", "lamb", "adafactor", "prodigy", "schedule_free_adamw"] {
        let mut plain = grouped(rule(name)).clip(Clip::global_norm(0.5));
        if name != "schedule_free_adamw" {
            plain = plain.lookahead(Lookahead::new(2, 0.5)).average(Ema::new(0.5));
        }
        let mut straight = Both::new(&plain, &layout, &random(1, layout.len()));
        let mut perturbed = Both::new(&plain.sam(Sam::new(0.05)), &layout, &random(1, layout.len()));
        for step in 0..4 {
            perturbed.perturb(&random(50 + step, layout.len()));
            let grads = random(2 + step, layout.len());
            perturbed.step(&grads);
            straight.step(&grads);
        }
        let bits = |both: &Both| (cpu_bits(&both.on_cpu, &both.params), both.on_device.bits());
        assert!(bits(&perturbed) == bits(&straight), "{name}");
        perturbed.eval();
        straight.eval();
        assert!(bits(&perturbed) == bits(&straight), "{name} evaluated");
    }
}

/// Cut anywhere, also within tiles, parameters elsewhere than gradients; bindings of a few tiles.
#[test]
fn buffers_change_no_bit() {
    let gpu = device_with(|limits| {
        limits.max_buffer_size = 1 << 17;
        limits.max_storage_buffer_binding_size = 1 << 17;
    });
    let len = 100_003;
    let layout = Layout::builder().packed().tensor("a", &[40_001]).tensor("b", &[60_002]).build().unwrap();
    let (values, grads) = (random(1, len), random(2, len));
    for sam in KINDS.map(|sam| sam()) {
        let builder = Optimizer::builder(Sgd::default().with_lr(0.5)).sam(sam);
        let mut whole = Both::new(&builder, &layout, &values);
        whole.perturb(&grads);
        let [_, expected] = whole.params();
        whole.step(&grads);
        let [_, stepped] = whole.params();
        let upload = |gpu: &Gpu, values: &[f32], cuts: &[usize]| -> Vec<_> {
            cuts.windows(2).map(|cut| device::upload(gpu, &values[cut[0]..cut[1]])).collect()
        };
        let cuts = [0, 13_000, 24_576, 40_000, 50_001, 81_920, len];
        let places: [&[usize]; 3] =
            [&cuts, &[0, 24_576, 49_152, 73_728, 98_304, len], &[0, 30_001, 60_003, 90_001, len]];
        for (of_grads, gathers) in places.into_iter().flat_map(|place| [(place, false), (place, true)]) {
            let builder = builder.clone();
            let builder = if gathers { builder.gather_gradients() } else { builder };
            let mut optimizer = device::build(&gpu, builder, &layout).unwrap();
            let (params, grads) = (upload(&gpu, &values, &cuts), upload(&gpu, &grads, of_grads));
            let slices: Vec<BufferSlice<'_>> = params.iter().map(|buffer| buffer.slice(..)).collect();
            let grads: Vec<BufferSlice<'_>> = grads.iter().map(|buffer| buffer.slice(..)).collect();
            let download = || slices.iter().flat_map(|slice| device::download_slice(&gpu, *slice)).collect::<Vec<_>>();
            let mut recorded = encoder(&gpu);
            optimizer.perturb(&mut recorded, &slices, &grads).unwrap();
            gpu.queue.submit([recorded.finish()]);
            assert_same_bits(&download(), &expected, &format!("{sam:?}, {of_grads:?}, {gathers}"));
            let mut recorded = encoder(&gpu);
            optimizer.step(&mut recorded, &slices, &grads).unwrap();
            finish(&gpu, &optimizer, recorded);
            assert_same_bits(&download(), &stepped, &format!("{sam:?}, {of_grads:?}, {gathers}, stepped"));
        }
    }
}

/// Parameters and gradients in one buffer.
#[test]
fn a_shared_buffer_changes_no_bit() {
    let (layout, gpu) = (layout(), device::gpu());
    let (params, grads, bytes) = (random(1, layout.len()), random(2, layout.len()), 4 * layout.len() as u64);
    let page = device::upload(gpu, &[&params[..], &grads].concat());
    for sam in KINDS.map(|sam| sam()) {
        let builder = grouped(rule("adamw")).sam(sam);
        let mut apart = Both::new(&builder, &layout, &params);
        let mut optimizer = device::build(gpu, builder, &layout).unwrap();
        gpu.queue.write_buffer(&page, 0, bytemuck::cast_slice(&params));
        let (of_params, of_grads) = (page.slice(..bytes), page.slice(bytes..2 * bytes));
        for _ in 0..2 {
            apart.perturb(&grads);
            apart.step(&grads);
            let mut recorded = encoder(gpu);
            optimizer.perturb(&mut recorded, of_params, of_grads).unwrap();
            optimizer.step(&mut recorded, of_params, of_grads).unwrap();
            finish(gpu, &optimizer, recorded);
        }
        assert_same_bits(&device::download_slice(gpu, of_params), &apart.params()[1], &format!("{sam:?}"));
    }
}

/// Parameters and gradients whose bindings would overlap, and together exceed the largest binding.
#[test]
fn a_shared_buffer_may_exceed_a_binding() {
    const LEN: usize = 50_001;
    let small = device_with(|limits| limits.max_storage_buffer_binding_size = 256 << 10);
    let layout = Layout::flat(LEN).unwrap();
    let (params, grads) = (random(1, LEN), random(2, LEN));
    for sam in KINDS.map(|sam| sam()) {
        let builder = rule("sgd").sam(sam);
        let mut apart = Both::new(&builder, &layout, &params);
        apart.perturb(&grads);
        let page = device::upload(&small, &[&params[..], &grads].concat());
        let mut optimizer = device::build(&small, builder, &layout).unwrap();
        let [of_params, of_grads] = [0, 1].map(|half| page.slice(4 * LEN as u64 * half..4 * LEN as u64 * (half + 1)));
        let mut recorded = encoder(&small);
        optimizer.perturb(&mut recorded, of_params, of_grads).unwrap();
        small.queue.submit([recorded.finish()]);
        assert_same_bits(&device::download_slice(&small, of_params), &apart.params()[1], &format!("{sam:?}"));
    }
}

#[test]
fn extreme_gradients_have_a_direction() {
    let tiny = 2f32.powi(-120);
    for (first, second, share) in [
        (3e38, 3e38, [0.5f32.sqrt(); 2]),
        (tiny, -tiny, [0.5f32.sqrt(), -0.5f32.sqrt()]),
        (0.0, -1e-30, [0.0, -1.0]),
        (0.0, 0.0, [0.0; 2]),
        (3e38, 1e-38, [1.0, 0.0]),
        (f32::MIN_POSITIVE, 0.0, [1.0, 0.0]),
    ] {
        let mut both = Both::new(&rule("sgd").sam(Sam::new(2.0)), &Layout::flat(2).unwrap(), &[1.0, -1.0]);
        both.perturb(&[first, second]);
        for found in both.params() {
            for (i, (start, share)) in [1.0, -1.0].into_iter().zip(share).enumerate() {
                let expected = start + 2.0 * share;
                assert!((found[i] - expected).abs() <= 2e-7 * 3.0, "{first:e} {second:e}: {} for {expected}", found[i]);
            }
        }
    }
}

/// A bad first gradient shows in the perturbed parameters; the step with the second one is skipped, and nothing is lost.
#[test]
fn bad_gradients_are_seen_and_undone() {
    for (bad, others) in [(f32::INFINITY, Some(1.0)), (f32::NAN, None)] {
        for sam in KINDS.map(|sam| sam()) {
            let builder = rule("adamw").sam(sam).on_nonfinite(NonFinite::Skip);
            let mut both = Both::new(&builder, &Layout::flat(4).unwrap(), &[1.0; 4]);
            both.step(&[0.5; 4]);
            let before = both.params();
            both.perturb(&[1.0, bad, 1.0, 1.0]);
            for (found, before) in both.params().iter().zip(&before) {
                assert!(found[1].is_nan(), "{found:?}");
                assert!(others.map_or(found[0].is_nan(), |_| found[0] == before[0]), "{found:?}");
            }
            let stats = both.on_cpu.step(&mut both.params, &[f32::NAN; 4]).unwrap();
            assert_eq!((stats.skipped, stats.first_nonfinite), (1, Some(0)));
            let stats = both.on_device.step(&[f32::NAN; 4]);
            assert_eq!((stats.skipped, stats.first_nonfinite), (1, Some(0)));
            assert_eq!(both.params(), before);
        }
    }
}

#[test]
fn calls_out_of_order_are_refused() {
    let layout = Layout::flat(4).unwrap();
    let mut without = Both::new(&rule("sgd"), &layout, &[1.0; 4]);
    let error = without.on_cpu.perturb(&mut without.params, &[1.0; 4]).unwrap_err();
    assert!(matches!(error, Error::NoSam) && error.to_string().contains("sam"), "{error}");
    without.record(|optimizer, encoder, params| {
        assert!(matches!(optimizer.perturb(encoder, params, params), Err(Error::NoSam)));
        assert!(matches!(optimizer.train(encoder, params), Err(Error::UnknownAuxiliaryUpdate { .. })));
        Ok(())
    });
    let builder = Optimizer::builder(ScheduleFreeSgd::default()).sam(Sam::new(0.5)).accumulate_gradients();
    let mut both = Both::new(&builder, &layout, &[1.0; 4]);
    both.perturb(&[1.0; 4]);
    let perturbed = both.params();
    let is_refused = |error: &Error, name: &str| {
        assert!(matches!(error, Error::Perturbed { call } if *call == name), "{error:?}");
        assert!(error.to_string().contains("call `step` first, or `train`"), "{error}");
    };
    is_refused(&both.on_cpu.perturb(&mut both.params, &[1.0; 4]).unwrap_err(), "perturb");
    is_refused(&both.on_cpu.perturb_accumulated(&mut both.params).unwrap_err(), "perturb");
    is_refused(&both.on_cpu.eval(&mut both.params).unwrap_err(), "eval");
    let grads = both.on_device.grads.clone();
    both.record(|optimizer, encoder, params| {
        is_refused(&optimizer.perturb(encoder, params, grads.slice(..16)).unwrap_err(), "perturb");
        is_refused(&optimizer.perturb_accumulated(encoder, params).unwrap_err(), "perturb");
        is_refused(&optimizer.eval(encoder, params).unwrap_err(), "eval");
        Ok(())
    });
    assert_eq!(both.params(), perturbed);
    // The way back without a step.
    both.train();
    assert_eq!(both.params(), [vec![1.0; 4], vec![1.0; 4]]);
    both.eval();
    let refused = both.on_cpu.perturb(&mut both.params, &[1.0; 4]);
    assert!(matches!(refused, Err(Error::EvaluationMode { call: "perturb" })));
    both.record(|optimizer, encoder, params| {
        let refused = optimizer.perturb(encoder, params, grads.slice(..16));
        assert!(matches!(refused, Err(Error::EvaluationMode { call: "perturb" })));
        Ok(())
    });
    for (sam, name) in [
        (Sam::new(-1.0), "rho"),
        (Sam::new(f64::NAN), "rho"),
        (Sam::new(1e39), "rho"),
        (Sam::adaptive(1.0, -0.1), "eta"),
    ] {
        let refused = rule("sgd").sam(sam).build_cpu(&layout).unwrap_err();
        assert!(matches!(refused, Error::Hyperparameter { name: found, .. } if found == name), "{refused}");
    }
}

fn submit(trainer: &mut Trainer<'_>, record: impl FnOnce(&mut Trainer<'_>, &mut CommandEncoder)) {
    let recorded = recorded(trainer, record);
    trainer.gpu.queue.submit([recorded.finish()]);
}

fn recorded(trainer: &mut Trainer<'_>, record: impl FnOnce(&mut Trainer<'_>, &mut CommandEncoder)) -> CommandEncoder {
    let mut encoder = encoder(trainer.gpu);
    record(trainer, &mut encoder);
    encoder
}

fn perturb(trainer: &mut Trainer<'_>, encoder: &mut CommandEncoder) {
    trainer.optimizer.perturb(encoder, &trainer.params, &trainer.grads).unwrap();
}

fn step(trainer: &mut Trainer<'_>, encoder: &mut CommandEncoder) {
    trainer.optimizer.step(encoder, &trainer.params, &trainer.grads).unwrap();
}

/// Perturbations and steps in three encoders, any of them dropped at the end: the rest is as if these were never made.
#[test]
fn any_encoder_may_be_dropped_later() {
    let layout = Layout::flat(300).unwrap();
    let new = || {
        let builder = Optimizer::builder(Sgd::default().with_momentum(0.5)).sam(Sam::new(2.0));
        let trainer = Trainer::new(device::gpu(), builder, &layout, &random(1, 300));
        trainer.gpu.queue.write_buffer(&trainer.grads, 0, bytemuck::cast_slice(&random(2, 300)));
        trainer
    };
    let calls = [perturb, step, perturb];
    for dropped in 0..8u32 {
        let is_kept = |number: usize| dropped >> number & 1 == 0;
        let mut trainer = new();
        let mut encoders: Vec<_> = calls.map(|call| Some(recorded(&mut trainer, call))).into();
        // From the last to the first, then what stays in its order.
        (0..3).rev().filter(|&number| !is_kept(number)).for_each(|number| drop(encoders[number].take()));
        trainer.gpu.queue.submit(encoders.into_iter().flatten().map(CommandEncoder::finish));
        let mut expected = new();
        for (number, call) in calls.into_iter().enumerate().filter(|(number, _)| is_kept(*number)) {
            // Without the step, the second perturbation begins anew.
            if number == 2 && !is_kept(1) && is_kept(0) {
                submit(&mut expected, |trainer, encoder| {
                    trainer.optimizer.train(encoder, &trainer.params).unwrap();
                });
            }
            submit(&mut expected, call);
        }
        assert!(trainer.bits() == expected.bits(), "{dropped:03b}");
        submit(&mut trainer, step);
        submit(&mut expected, step);
        assert!(trainer.bits() == expected.bits(), "{dropped:03b}, stepped");
    }
}

/// A `train` that is dropped after the next step: this step still starts from the training parameters.
#[test]
fn a_step_after_a_train_that_is_dropped_later_starts_from_training_parameters() {
    let layout = Layout::flat(300).unwrap();
    let new = || {
        let builder = Optimizer::builder(Sgd::default()).average(Ema::new(0.5));
        let mut trainer = Trainer::new(device::gpu(), builder, &layout, &random(1, 300));
        trainer.step(&random(2, 300));
        trainer.step(&random(3, 300));
        trainer
    };
    let (mut trainer, mut expected) = (new(), new());
    submit(&mut trainer, |trainer, encoder| trainer.optimizer.eval(encoder, &trainer.params).unwrap());
    let train = |trainer: &mut Trainer<'_>, encoder: &mut CommandEncoder| {
        trainer.optimizer.train(encoder, &trainer.params).unwrap();
    };
    let dropped = recorded(&mut trainer, train);
    let kept = recorded(&mut trainer, step);
    drop(dropped);
    trainer.gpu.queue.submit([kept.finish()]);
    submit(&mut expected, step);
    assert!(trainer.bits() == expected.bits());
    // The step has brought the mode of training.
    submit(&mut trainer, step);
    submit(&mut expected, step);
    assert!(trainer.bits() == expected.bits());
}

#[test]
fn snapshots_hold_perturbed_and_stored_parameters() {
    let layout = layout();
    let builder = grouped(rule("adamw")).sam(Sam::adaptive(0.5, 0.01));
    let (first, second) = (random(2, layout.len()), random(3, layout.len()));
    let mut both = Both::new(&builder, &layout, &random(1, layout.len()));
    both.step(&second);
    both.perturb(&first);
    let perturbed = both.params();
    let on_cpu = both.on_cpu.snapshot(&both.params).unwrap();
    let mut on_device = None;
    both.record(|optimizer, encoder, params| {
        on_device = Some(optimizer.snapshot(encoder, params)?);
        Ok(())
    });
    both.step(&second);
    let stepped = both.params();
    for _ in 0..2 {
        both.perturb(&second);
        both.step(&first);
        both.on_cpu.restore(&mut both.params, &on_cpu).unwrap();
        let snapshot = on_device.as_ref().unwrap();
        both.record(|optimizer, encoder, params| optimizer.restore(encoder, params, snapshot));
        assert_eq!(both.params(), perturbed);
        both.step(&second);
        assert_eq!(both.params(), stepped);
    }
}

#[test]
fn accumulated_gradients_perturb() {
    let layout = layout();
    let builder = grouped(rule("sgd")).sam(Sam::new(0.5));
    let mut whole = Both::new(&builder, &layout, &random(1, layout.len()));
    let mut parts = Both::new(&builder.accumulate_gradients(), &layout, &random(1, layout.len()));
    let grads = random(2, layout.len());
    let accumulate = |parts: &mut Both| {
        for _ in 0..2 {
            parts.on_cpu.accumulate(&grads, 0.5).unwrap();
            parts.on_device.gpu.queue.write_buffer(&parts.on_device.grads, 0, bytemuck::cast_slice(&grads));
            let of_device = parts.on_device.grads.clone();
            let of_device = of_device.slice(..4 * grads.len() as u64);
            parts.record(|optimizer, encoder, _| optimizer.accumulate(encoder, of_device, 0.5));
        }
    };
    for _ in 0..2 {
        accumulate(&mut parts);
        parts.on_cpu.perturb_accumulated(&mut parts.params).unwrap();
        parts.record(|optimizer, encoder, params| optimizer.perturb_accumulated(encoder, params));
        whole.perturb(&grads);
        assert_eq!(parts.params(), whole.params());
        // The accumulator is 0 again.
        accumulate(&mut parts);
        parts.on_cpu.step_accumulated(&mut parts.params).unwrap();
        parts.record(|optimizer, encoder, params| optimizer.step_accumulated(encoder, params));
        whole.step(&grads);
        assert_eq!(parts.params(), whole.params());
    }
}

#[test]
fn bf16_gradients_perturb_as_their_values_in_f32() {
    let layout = layout();
    let grads = bf16::round(&random(2, layout.len()));
    for sam in KINDS.map(|sam| sam()) {
        let builder = grouped(rule("sgd")).sam(sam);
        let mut wide = Both::new(&builder, &layout, &random(1, layout.len()));
        wide.perturb(&bf16::widen(&grads));
        let mut narrow = Both::new(&builder.grad_dtype(Dtype::Bf16), &layout, &random(1, layout.len()));
        narrow.on_cpu.perturb(&mut narrow.params, &grads).unwrap();
        let of_device = bf16::upload(narrow.on_device.gpu, &grads);
        let of_device = of_device.slice(..(2 * grads.len() as u64).next_multiple_of(4));
        narrow.record(|optimizer, encoder, params| optimizer.perturb(encoder, params, of_device));
        assert_eq!(narrow.params(), wide.params(), "{sam:?}");
    }
}

#[test]
fn perturbations_leave_padding() {
    let layout = Layout::builder().tensor("a", &[3]).tensor("b", &[70]).build().unwrap();
    let mut params = vec![9.0; layout.len()];
    let mut grads = vec![0.0; layout.len()];
    for tensor in layout.tensors() {
        params[tensor.range()].fill(1.0);
        grads[tensor.range()].fill(2.0);
    }
    // A number in the padding of gradients is in no norm.
    grads[3] = 1e9;
    let mut both = Both::new(&rule("sgd").sam(Sam::adaptive(73f64.sqrt(), 0.0)), &layout, &params);
    both.perturb(&grads);
    for found in both.params() {
        for tensor in layout.tensors() {
            found[tensor.range()].iter().for_each(|param| assert!((param - 2.0).abs() < 1e-6, "{param}"));
        }
        assert!(found[3..64].iter().all(|&padding| padding == 9.0));
    }
    // Writes of the program into it stay, too.
    both.params[5] = 5.0;
    both.on_device.gpu.queue.write_buffer(&both.on_device.params, 20, bytemuck::bytes_of(&5.0f32));
    both.train();
    params[5] = 5.0;
    assert_eq!(both.params(), [params.clone(), params]);
}

/// Between a perturbation and its step, from one engine to the other.
#[test]
fn a_checkpoint_between_perturbation_and_step_goes_on() {
    let layout = layout();
    let builder = grouped(rule("adamw")).sam(Sam::adaptive(0.5, 0.01));
    let mut both = Both::new(&builder, &layout, &random(1, layout.len()));
    both.step(&random(2, layout.len()));
    both.perturb(&random(3, layout.len()));
    let folder = tempfile::tempdir().unwrap();
    let [of_cpu, of_device] = ["cpu", "device"].map(|name| folder.path().join(name));
    both.on_cpu.save(&of_cpu, Some((&both.params).into())).unwrap();
    let params = both.on_device.params.slice(..4 * layout.len() as u64);
    both.on_device.optimizer.save(&of_device, Some(params.into())).unwrap();
    let mut resumed = Both::new(&builder, &layout, &vec![0.0; layout.len()]);
    let options = LoadOptions::default();
    let loaded = resumed.on_cpu.load(&of_cpu, Some((&mut resumed.params).into()), &options).unwrap();
    assert!(loaded.differences.is_empty());
    let params = resumed.on_device.params.slice(..4 * layout.len() as u64);
    let loaded = resumed.on_device.optimizer.load(&of_device, Some(params.into()), &options).unwrap();
    assert!(loaded.differences.is_empty());
    assert_eq!(resumed.params(), both.params());
    for both in [&mut resumed, &mut both] {
        both.step(&random(4, layout.len()));
    }
    assert_eq!(resumed.params(), both.params());
    // The device continues the file of the CPU engine.
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &vec![0.0; layout.len()]);
    let params = trainer.params.slice(..4 * layout.len() as u64);
    let loaded = trainer.optimizer.load(&of_cpu, Some(params.into()), &options).unwrap();
    assert!(loaded.differences.is_empty());
    trainer.step(&random(4, layout.len()));
    assert_close("CPU to device", &trainer.params()[..layout.len()], &wide(&both.params), 1e-5);

    // Parameters would be lost on the way back.
    both.perturb(&random(5, layout.len()));
    let mut file = Vec::new();
    checkpoint::save_params_to(&mut file, &layout, &both.params).unwrap();
    let params = both.on_device.params.slice(..4 * layout.len() as u64);
    let refused = both.on_device.optimizer.load_params_from(Cursor::new(&file), params, &options).unwrap_err();
    assert!(matches!(refused, CheckpointError::Optimizer(Error::Perturbed { call: "load_params" })), "{refused:?}");

    let refused = both.on_device.optimizer.load(&of_cpu, None, &options).unwrap_err();
    assert!(matches!(refused, CheckpointError::Optimizer(Error::Perturbed { call: "load" })), "{refused:?}");
    let refused = both.on_cpu.load(&of_cpu, None, &options).unwrap_err();
    assert!(matches!(refused, CheckpointError::Optimizer(Error::Perturbed { call: "load" })), "{refused:?}");

    // An optimizer that does not perturb has no use for it.
    let mut other = grouped(rule("adamw")).build_cpu(&layout).unwrap();
    let mut params = random(9, layout.len());
    let refused = other.load(&of_cpu, Some((&mut params).into()), &options).unwrap_err();
    assert!(matches!(refused, CheckpointError::Optimizer(Error::NoSam)), "{refused:?}");
    assert_eq!(params, random(9, layout.len()));
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}
