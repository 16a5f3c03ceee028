//! Clipping by global norm and the gradient scale: what reaches the rule.

mod common;

use approx::assert_relative_eq;
use common::numbers::random;
use common::oracle::{clip_coefficient, global_norm};
use common::{Trainer, device};
use wgpu_optim::{AdamW, Clip, Layout, Lion, NonFinite, Optimizer, Sgd};

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
        let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).clip(Clip::global_norm(max_norm));
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0]);
        let mut params = [0.0];
        let cpu = builder.build_cpu(&layout).unwrap().step(&mut params, &[3e-6]).unwrap();
        for (stats, param) in [(trainer.step(&[3e-6]), trainer.params()[0]), (cpu, params[0])] {
            assert_relative_eq!(stats.clip_coef, coef, max_relative = 2e-6);
            assert_relative_eq!(param, -3e-6 * coef, max_relative = 2e-6);
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
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).nonfinite(NonFinite::Propagate);
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
    // The step count carries over from the bare steps.
    assert_eq!(trainer.step(&[1.0; 8]).step, 2);
}
