//! Clipping of every kind, the gradient scale, and the limit of consecutive skips: what reaches the rule.

use crate::common::numbers::random;
use crate::common::{self, Trainer, device, encoder, finish, set_state, step_in_parts};
use crate::oracle::{clip_coefficient, global_norm};
use approx::assert_relative_eq;
use safetensors::SafeTensors;
use wgpu_optim::clip::{Adaptive, GlobalNorm, GroupNorm, Percentile};
use wgpu_optim::{Adafactor, AdamW, Clip, GroupOptions, Lamb, Lars, Layout, Lion, NonFinite, Optimizer, Sgd, Sophia};

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

/// Beside a norm of 3e-6 the 1e-6 that torch adds to it counts, in the comparison and in the quotient.
#[test]
fn tiny_norms_are_clipped_by_torchs_coefficient() {
    let layout = Layout::flat(1).unwrap();
    for (max_norm, coef) in [(2e-6, 0.5), (3e-6, 0.75), (3.5e-6, 0.875), (4.5e-6, 1.0)] {
        for clip in [Clip::global_norm(max_norm), Clip::group_norm(max_norm)] {
            let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).clip(clip);
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0]);
            let mut params = [0.0];
            let cpu = builder.build_cpu(&layout).unwrap().step(&mut params, &[3e-6]).unwrap();
            for (stats, param) in [(trainer.step(&[3e-6]), trainer.params()[0]), (cpu, params[0])] {
                if clip == Clip::global_norm(max_norm) {
                    assert_relative_eq!(stats.clip_coef, coef, max_relative = 2e-6);
                }
                assert_relative_eq!(param, -3e-6 * coef, max_relative = 2e-6, epsilon = 0.0);
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

/// Unscaled, these gradients or their norm would exceed f32, or come near; clipped, they are ordinary numbers. The last
/// are below the limit and stay as they are.
#[test]
fn clipping_comes_before_overflow() {
    let layout = Layout::flat(2).unwrap();
    let clipped = [(0.1f32, 1e38f32), (1e-15, 1e25), (1.0, 3e38), (1e-30, 1e30), (1e30, 1e38), (1e-36, 1e-30)];
    let clipped = clipped.into_iter().chain([(1e30, 1e31), (1.0, 1.0), (3.0, 1e30), (0.007, 1e28), (1e30, 3e38)]);
    let cases = clipped.map(|(scale, grad)| (scale, grad, 1.0)).chain([(3.0, 1e30, 1e33), (0.007, 1e28, 1e33)]);
    for (maximize, (scale, grad, max_norm)) in cases.flat_map(|case| [(false, case), (true, case)]) {
        let rule = Sgd::default().with_lr(1.0).with_maximize(maximize);
        let builder = Optimizer::builder(rule).clip(Clip::global_norm(max_norm));
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
        let norm = unscaled * 2f64.sqrt();
        let coef = clip_coefficient(norm, max_norm);
        let expected = if maximize { -unscaled * coef } else { unscaled * coef };
        for (stats, params) in engines {
            assert_eq!((stats.step, stats.skipped), (1, 0));
            assert_relative_eq!(stats.grad_norm.unwrap(), norm as f32, max_relative = 1e-6);
            assert_relative_eq!(f64::from(params[0]), -expected, max_relative = 2e-6);
            assert_relative_eq!(f64::from(params[1]), expected, max_relative = 2e-6);
            // A coefficient below f32's normal numbers may count as 0.
            let reported = f64::from(stats.clip_coef);
            assert_relative_eq!(reported, coef, max_relative = 2e-6, epsilon = f64::from(f32::MIN_POSITIVE));
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

#[test]
fn told_to_propagate_a_step_divides_by_any_scale_on_the_device() {
    let gpu = device::gpu();
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).on_nonfinite(NonFinite::Propagate);
    let mut trainer = Trainer::new(gpu, builder, &Layout::flat(4).unwrap(), &[0.0; 4]);
    trainer.optimizer.set_grad_scale(&device::upload(gpu, &[-2.0])).unwrap();
    let stats = trainer.step(&[1.0, 0.0, -1.0, 4.0]);
    assert_eq!((stats.step, stats.skipped, stats.invalid_grad_scale), (1, 0, true));
    assert_eq!(trainer.params(), [0.5, 0.0, -0.5, 2.0]);
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
    // The step count carries over from the single-pass steps.
    assert_eq!(trainer.step(&[1.0; 8]).step, 2);
}

/// What `tests/golden/clip.py` has of a case.
struct Reference {
    grads: Vec<Vec<f32>>,
    params: Vec<f32>,
    cases: Vec<Case>,
}

struct Case {
    clip: Clip,
    /// The clipped gradients of each step.
    clipped: Vec<Vec<f64>>,
    norms: Option<Vec<f64>>,
}

fn reference() -> Reference {
    let bytes = include_bytes!("../golden/clip.safetensors");
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let configs: Vec<Clip> = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["cases"]).unwrap();
    let numbers = |name: &str| {
        let tensor = tensors.tensor(name).ok()?;
        Some(bytemuck::pod_collect_to_vec::<u8, f64>(tensor.data()))
    };
    let grads = bytemuck::pod_collect_to_vec::<u8, f32>(tensors.tensor("grads").unwrap().data());
    let grads: Vec<Vec<f32>> = grads.chunks(67).map(<[f32]>::to_vec).collect();
    let cases = configs.into_iter().enumerate().map(|(i, clip)| {
        let clipped = numbers(&format!("{i}/clipped")).unwrap();
        let clipped = clipped.chunks(67).map(<[f64]>::to_vec).collect();
        Case { clip, clipped, norms: numbers(&format!("{i}/grad_norm")) }
    });
    let params = bytemuck::pod_collect_to_vec::<u8, f32>(tensors.tensor("params").unwrap().data());
    Reference { grads, params, cases: cases.collect() }
}

/// Norms of every order, exact and PyTorch's coefficients, clipping by value, percentiles of earlier norms, norms of groups
/// and of units.
#[test]
fn gradients_are_clipped_as_other_frameworks_clip_them() {
    let Reference { grads, params, cases } = reference();
    let layout = Layout::builder().tensor("w", &[5, 12]).tensor("b", &[7]).group("b").packed().build().unwrap();
    assert!(cases.len() > 25);
    // The parameters count in the norms of units alone; what is left of the gradients is the momentum of the first step.
    let rule = Sgd::default().with_momentum(0.5).with_lr(0.0);
    for Case { clip, clipped, norms } in cases {
        let builder = Optimizer::builder(rule.clone()).clip(clip);
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
        let mut cpu = builder.build_cpu(&layout).unwrap();
        for (row, grads) in grads.iter().enumerate() {
            set_state(trainer.gpu, &trainer.optimizer, "momentum_buffer", &[0.0; 67]);
            cpu.state_mut("momentum_buffer").unwrap().into_f32().unwrap().fill(0.0);
            let on_cpu = cpu.step(&mut params.clone(), grads).unwrap();
            let on_device = trainer.step(grads);
            let momentum = cpu.state("momentum_buffer").unwrap().as_f32().unwrap().to_vec();
            for (stats, left) in [(on_device, trainer.state("momentum_buffer")), (on_cpu, momentum)] {
                let norm = stats.grad_norm.map(f64::from);
                assert_eq!(norm.is_some(), norms.is_some(), "{clip:?}");
                if let (Some(norm), Some(norms)) = (norm, &norms) {
                    // `pow` in WGSL: its logarithm may be off by 2^-21.
                    assert_relative_eq!(norm, norms[row], max_relative = 1e-6);
                }
                for (left, expected) in left.iter().zip(&clipped[row]) {
                    assert_relative_eq!(f64::from(*left), *expected, max_relative = 3e-6, epsilon = 1e-38);
                }
            }
        }
    }
}

/// Norms of every order of gradients far from 1, on both engines.
#[test]
fn norms_of_every_order_neither_overflow_nor_vanish() {
    const LEN: usize = 20_003;
    let layout = Layout::flat(LEN).unwrap();
    for scale in [1e-36f32, 1e-30, 1.0, 1e30] {
        let grads: Vec<f32> = random(3, LEN).iter().map(|grad| grad * scale).collect();
        for p in [1.0, 1.5, 2.0, 7.0, 32.0, f64::INFINITY] {
            let largest = grads.iter().fold(0.0f64, |most, &grad| most.max(f64::from(grad.abs())));
            let sum: f64 = grads.iter().map(|&grad| (f64::from(grad.abs()) / largest).powf(p)).sum();
            let expected = if p == f64::INFINITY { largest } else { largest * sum.powf(1.0 / p) };
            let builder = Optimizer::builder(Sgd::default()).clip(GlobalNorm::new(1.0).with_norm_type(p));
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &vec![0.0; LEN]);
            let on_cpu = builder.build_cpu(&layout).unwrap().step(&mut vec![0.0; LEN], &grads).unwrap();
            for stats in [trainer.step(&grads), on_cpu] {
                assert_relative_eq!(f64::from(stats.grad_norm.unwrap()), expected, max_relative = 1.5e-6);
            }
        }
    }
}

/// Infinities become the limit where they are let through, NaN stays; a step by value alone is a single-pass step.
#[test]
fn clipping_by_value_keeps_nan_and_takes_no_norm() {
    let layout = Layout::flat(5).unwrap();
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).clip(Clip::value(2.0));
    let grads = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -3.0, 1.0];
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0; 5]);
    let mut params = [0.0; 5];
    let cpu = builder.clone().build_cpu(&layout).unwrap().step(&mut params, &grads).unwrap();
    for (stats, params) in [(trainer.step(&grads), trainer.params()), (cpu, params.to_vec())] {
        assert_eq!((stats.step, stats.grad_norm, stats.first_nonfinite), (1, None, Some(0)));
        assert_eq!((params[0], params[1], params[3], params[4]), (-2.0, 2.0, 2.0, -1.0));
        assert!(params[2].is_nan());
    }
    let skipping = builder.on_nonfinite(NonFinite::Skip);
    let stats = skipping.build_cpu(&layout).unwrap().step(&mut [0.0; 5], &grads).unwrap();
    assert_eq!((stats.step, stats.skipped), (0, 1));
}

/// The sums that a rule takes over tensors, and its factors, are of the gradients as they are clipped; what a further pass
/// is given is not.
#[test]
fn rules_measure_gradients_clipped_by_value() {
    const LEN: usize = 64 * 40;
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("w", &[64, 40]).build().unwrap();
    let (params, grads) = (random(1, LEN), random(2, LEN));
    let clamped: Vec<f32> = grads.iter().map(|grad| grad.clamp(-0.25, 0.25)).collect();
    assert!(grads.iter().zip(&clamped).any(|(grad, clamped)| grad != clamped));
    for builder in [Optimizer::builder(Lamb::default()), Optimizer::builder(Adafactor::default())] {
        let mut plain = Trainer::new(gpu, builder.clone(), &layout, &params);
        plain.step(&clamped);
        let builder = builder.clip(Clip::value(0.25));
        let mut clipped = Trainer::new(gpu, builder.clone(), &layout, &params);
        clipped.step(&grads);
        assert_eq!(clipped.bits(), plain.bits());

        let (mut by_value, mut as_given) = (params.clone(), params.clone());
        builder.clone().build_cpu(&layout).unwrap().step(&mut by_value, &grads).unwrap();
        builder.build_cpu(&layout).unwrap().step(&mut as_given, &clamped).unwrap();
        assert_eq!(by_value, as_given);
    }
    let builder = Optimizer::builder(Sophia::default());
    let hessians = [builder.clone(), builder.clip(Clip::value(0.25))].map(|builder| {
        let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &params);
        let (mut encoder, estimate) = (encoder(gpu), device::upload(gpu, &grads));
        trainer.optimizer.update_hessian(&mut encoder, &trainer.params, &estimate).unwrap();
        finish(gpu, &trainer.optimizer, encoder);
        let mut cpu = builder.build_cpu(&layout).unwrap();
        cpu.update_hessian(&mut params.clone(), &grads).unwrap();
        [trainer.state("hessian"), cpu.state("hessian").unwrap().as_f32().unwrap().to_vec()]
    });
    assert_eq!(hessians[0], hessians[1]);
}

/// LARS divides by the norm of gradients, which has to be that of the clipped ones.
#[test]
fn rules_measure_gradients_clipped_by_global_norm() {
    let layout = Layout::builder().tensor("a", &[700]).tensor("b", &[33]).packed().build().unwrap();
    let (params, grads) = (random(1, 733), random(2, 733));
    let builder = Optimizer::builder(Lars::default().with_weight_decay(0.1));
    let mut clipped = Trainer::new(device::gpu(), builder.clone().clip(Clip::global_norm(0.5)), &layout, &params);
    let coef = clipped.step(&grads).clip_coef;
    assert!(coef < 0.1);
    let grads: Vec<f32> = grads.iter().map(|grad| grad * coef).collect();
    let mut plain = Trainer::new(device::gpu(), builder, &layout, &params);
    plain.step(&grads);
    assert_eq!(clipped.bits(), plain.bits());
}

/// Norms that are not finite are left out of the percentile; with none yet nothing is clipped.
#[test]
fn percentiles_are_of_finite_norms() {
    let layout = Layout::flat(2).unwrap();
    let clip = Percentile::new(0.0).with_window(2).exact();
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).clip(clip);
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0; 2]);
    let mut cpu = builder.build_cpu(&layout).unwrap();
    for (grads, coef) in
        [([f32::NAN, 1.0], None), ([3.0, 4.0], Some(1.0)), ([0.0, f32::INFINITY], None), ([0.0, 1.0], Some(1.0))]
    {
        for stats in [trainer.step(&grads), cpu.step(&mut [0.0; 2], &grads).unwrap()] {
            match coef {
                Some(coef) => assert_eq!(stats.clip_coef, coef),
                None => assert!(stats.first_nonfinite.is_some()),
            }
        }
    }
    // The least of 1 and 10, of 10 and 2, of 2 and 4.
    for (grads, coef) in [([0.0, 10.0], 0.1), ([2.0, 0.0], 1.0), ([0.0, 4.0], 0.5)] {
        for stats in [trainer.step(&grads), cpu.step(&mut [0.0; 2], &grads).unwrap()] {
            assert_eq!(stats.clip_coef, coef);
        }
    }
}

/// Nor are those of steps that a stopped optimizer refuses.
#[test]
fn percentiles_are_of_steps_that_were_let_through() {
    let gpu = device::gpu();
    let layout = Layout::flat(1).unwrap();
    let clip = Percentile::new(0.0).with_window(2).exact();
    let builder = Optimizer::builder(Sgd::default()).clip(clip).on_nonfinite(NonFinite::Stop);
    let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &[0.0]);
    let mut cpu = builder.build_cpu(&layout).unwrap();
    for grad in [4.0, f32::NAN, 1.0] {
        assert_eq!(trainer.step(&[grad]).stopped, cpu.step(&mut [0.0], &[grad]).unwrap().stopped);
    }
    trainer.optimizer.resume();
    cpu.resume();
    // The less of 4 and 8.
    for stats in [trainer.step(&[8.0]), cpu.step(&mut [0.0], &[8.0]).unwrap()] {
        assert_eq!((stats.step, stats.clip_coef), (2, 0.5));
    }
}

/// More norms than a workgroup has lanes, many of them equal, in a ring that comes round.
#[test]
fn percentiles_are_interpolated_between_the_norms_of_the_window() {
    const WINDOW: usize = 400;
    let layout = Layout::flat(1).unwrap();
    let clip = Percentile::new(62.5).with_window(WINDOW as u32).exact();
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).clip(clip);
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0]);
    let mut cpu = builder.build_cpu(&layout).unwrap();
    let mut norms: Vec<f32> = random(7, WINDOW + 40).iter().map(|norm| (norm.abs() * 512.0).round() + 1.0).collect();
    // The ring's last norm counts among those below.
    norms[WINDOW - 1] = 0.5;
    for step in 0..norms.len() {
        let mut last: Vec<f64> = norms[..=step].iter().rev().take(WINDOW).map(|&norm| norm.into()).collect();
        last.sort_by(f64::total_cmp);
        let position = 0.625 * (last.len() - 1) as f64;
        let (below, above) = (last[position as usize], last[position.ceil() as usize]);
        let max_norm = below + position.fract() * (above - below);
        let expected = (max_norm / f64::from(norms[step])).min(1.0);
        for stats in [trainer.step(&norms[step..=step]), cpu.step(&mut [0.0], &norms[step..=step]).unwrap()] {
            assert_relative_eq!(f64::from(stats.clip_coef), expected, max_relative = 2e-6);
        }
    }
}

/// A norm beyond f32 is left out; it is clipped to the largest there is.
#[test]
fn without_a_finite_norm_the_percentile_is_the_largest_number() {
    let layout = Layout::flat(2).unwrap();
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).clip(Clip::percentile(50.0));
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0; 2]);
    let mut cpu = builder.build_cpu(&layout).unwrap();
    for stats in [trainer.step(&[3e38; 2]), cpu.step(&mut [0.0; 2], &[3e38; 2]).unwrap()] {
        let coef = f64::from(f32::MAX) / (f64::from(3e38f32) * 2f64.sqrt());
        assert_relative_eq!(f64::from(stats.clip_coef), coef, max_relative = 2e-6);
    }
}

#[test]
fn the_statistics_say_so_after_too_many_skips_in_a_row() {
    let layout = Layout::flat(3).unwrap();
    let builder = Optimizer::builder(Sgd::default()).on_nonfinite(NonFinite::Skip).max_consecutive_skips(2);
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0; 3]);
    let mut cpu = builder.build_cpu(&layout).unwrap();
    let (good, bad) = ([1.0; 3], [1.0, f32::NAN, 1.0]);
    for (grads, in_a_row, too_many) in
        [(bad, 1, false), (good, 0, false), (bad, 1, false), (bad, 2, true), (bad, 3, true), (good, 0, false)]
    {
        for stats in [trainer.step(&grads), cpu.step(&mut [0.0; 3], &grads).unwrap()] {
            assert_eq!((stats.consecutive_skipped, stats.too_many_skips), (in_a_row, too_many));
        }
    }
}

/// Groups that alternate, over many blocks, with gradients whose squares overflow or vanish, one frozen in part.
#[test]
fn each_group_is_clipped_by_its_own_norm() {
    let (a, b, c) = (20_000, 9_001, 12_345);
    let layout = Layout::builder()
        .tensor("a1", &[a])
        .tensor("b", &[b])
        .group("b")
        .tensor("a2", &[a])
        .tensor("c", &[c])
        .group("c")
        .tensor("frozen", &[5])
        .group("frozen")
        .packed()
        .build()
        .unwrap();
    let (b, c, end) = (a, 2 * a + b, 2 * a + b + c);
    let group_of = |i: usize| if i >= c && i < end { 2 } else { usize::from(i >= b && i < c - a) };
    // Gradients on both sides of 2^40 and of 2^-40, where sums change their scale, with few on one side; and such that there is
    // something to clip of the small ones too.
    let far = [[1.0, 1e30, 1e-30], [1e-25, 1.0, 1e35], [3e38, 1e-30, 1.0]];
    let near = [[1.1e12, 9e-13, 1.0], [1.1e11, 1.1e13, 9e-12], [9e-14, 3e11, 3e-13]];
    let small = [[1e-30, 9e-13, 9e-12], [9e-14, 3e-13, 1e-20]];
    let cases = far.into_iter().chain(near).flat_map(|scales| [0.5, 1e34].map(|max_norm| (scales, max_norm, 1e-6)));
    // And such that the quotient of the norms is no normal number.
    let cases = cases.chain(small.map(|scales| (scales, 1e-31, 0.0))).chain([([1e8, 1.0, 1e20], 1e-30, 0.0)]);
    for (scales, max_norm, eps) in cases {
        let mut grads = random(5, layout.len());
        for (i, grad) in grads.iter_mut().enumerate() {
            *grad = (*grad * scales[group_of(i)]).clamp(-f32::MAX, f32::MAX);
        }
        let mut squares = [0.0; 3];
        for (i, &grad) in grads[..end].iter().enumerate() {
            squares[group_of(i)] += f64::from(grad).powi(2);
        }
        let rule = Sgd::default().with_momentum(0.5).with_lr(0.0);
        let frozen = GroupOptions::default().frozen();
        let clip = GroupNorm::new(max_norm);
        let clip = if eps == 0.0 { clip.exact() } else { clip };
        let builder = Optimizer::builder(rule).clip(clip).group("frozen", frozen);
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &vec![0.0; layout.len()]);
        trainer.step(&grads);
        let mut cpu = builder.build_cpu(&layout).unwrap();
        cpu.step(&mut vec![0.0; layout.len()], &grads).unwrap();
        for left in [&trainer.state("momentum_buffer")[..], cpu.state("momentum_buffer").unwrap().as_f32().unwrap()] {
            for (i, (&left, &grad)) in left[..end].iter().zip(&grads).enumerate() {
                let expected = f64::from(grad) * (max_norm / (squares[group_of(i)].sqrt() + eps)).min(1.0);
                assert_relative_eq!(f64::from(left), expected, max_relative = 3e-6, epsilon = 2e-38);
            }
            assert_eq!(left[end..], [0.0; 5]);
        }
    }
}

/// As torch has it: NaN is of the whole group or unit, infinity leaves NaN in its place and 0 beside it.
#[test]
fn told_to_propagate_a_bad_gradient_is_its_whole_groups() {
    let layout = Layout::builder().tensor("a", &[3]).tensor("b", &[3]).group("b").packed().build().unwrap();
    for clip in [Clip::group_norm(1.0), Clip::adaptive(0.01)] {
        let rule = Sgd::default().with_momentum(0.5);
        let builder = Optimizer::builder(rule).clip(clip).on_nonfinite(NonFinite::Propagate);
        for (bad, beside_it) in [(f32::NAN, f32::NAN), (f32::INFINITY, 0.0)] {
            let grads = [100.0, bad, -100.0, 0.001, 0.0, -0.001];
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[1.0; 6]);
            trainer.step(&grads);
            let mut cpu = builder.clone().build_cpu(&layout).unwrap();
            cpu.step(&mut [1.0; 6], &grads).unwrap();
            for left in [&trainer.state("momentum_buffer")[..], cpu.state("momentum_buffer").unwrap().as_f32().unwrap()]
            {
                assert!(left[1].is_nan(), "{left:?}");
                for left in [left[0], left[2]] {
                    assert!(left == beside_it || left.is_nan() == beside_it.is_nan() && left.is_nan(), "{left}");
                }
                assert_eq!(left[3..], grads[3..]);
            }
        }
    }
}

/// timm divides by the norm of gradients, or by 1e-6 if that is more.
#[test]
fn adaptive_clipping_reckons_with_norms_of_a_millionth_at_least() {
    let layout = Layout::flat(1).unwrap();
    let clip = Adaptive::new(0.01).with_eps(1e-6);
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).clip(clip);
    for (grad, left) in [(1e-7, 1e-9), (5e-9, 5e-9), (1e-5, 1e-8)] {
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0]);
        trainer.step(&[grad]);
        let mut params = [0.0];
        builder.clone().build_cpu(&layout).unwrap().step(&mut params, &[grad]).unwrap();
        for param in [trainer.params()[0], params[0]] {
            assert_relative_eq!(param, -left, max_relative = 2e-6, epsilon = 0.0);
        }
    }
}

/// Neighbours of one group lie in one run, and still there may be a buffer for each.
#[test]
fn groups_are_clipped_in_a_buffer_per_tensor() {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("w", &[700]).tensor("b", &[33]).packed().build().unwrap();
    let (params, grads) = (random(1, 733), random(2, 733));
    let builder = Optimizer::builder(Sgd::default()).clip(Clip::group_norm(0.5));
    let mut whole = Trainer::new(gpu, builder.clone(), &layout, &params);
    whole.step(&grads);
    let (_, in_parts) = step_in_parts(gpu, builder, &layout, (&params, &grads), &[0, 700, 733], 0);
    assert_eq!(in_parts, whole.params());
}

/// The sums of the elements that were cut into buffers, and a rule with states, passes and bias corrections of its own.
#[test]
fn a_rule_clipped_by_norms_of_units_is_the_same_rule() {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("w", &[33, 700]).tensor("b", &[33]).packed().build().unwrap();
    let (params, grads) = (random(1, layout.len()), random(2, layout.len()));
    let sgd = Sgd::default().with_momentum(0.5);
    for (builder, state) in [
        (Optimizer::builder(sgd), "momentum_buffer"),
        (Optimizer::builder(AdamW::default()), "exp_avg"),
        (Optimizer::builder(Sophia::default()), "exp_avg"),
    ] {
        let clipped = builder.clone().clip(Clip::adaptive(0.25));
        let mut expected = grads.clone();
        let units = (0..34).map(|unit| unit * 700..layout.len().min((unit + 1) * 700));
        for unit in units {
            let max_norm = 0.25 * global_norm(&params[unit.clone()]).max(1e-3);
            let coef = (max_norm / global_norm(&expected[unit.clone()])).min(1.0) as f32;
            expected[unit].iter_mut().for_each(|grad| *grad *= coef);
        }
        let mut plain = Trainer::new(gpu, builder, &layout, &params);
        plain.step(&expected);
        let (optimizer, _) =
            step_in_parts(gpu, clipped.clone(), &layout, (&params, &grads), &[0, 8_192, 16_384, layout.len()], 0);
        let mut cpu = clipped.build_cpu(&layout).unwrap();
        cpu.step(&mut params.clone(), &grads).unwrap();
        // The first steps of AdamW and Sophia move parameters as far whatever the gradients' size; their averages tell.
        for averages in [common::state(gpu, &optimizer, state), cpu.state(state).unwrap().as_f32().unwrap().to_vec()] {
            for (average, expected) in averages.iter().zip(plain.state(state)) {
                assert_relative_eq!(*average, expected, max_relative = 1e-6);
            }
        }
    }
}
