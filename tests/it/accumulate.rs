//! Gradient accumulation: micro-batches and one step equal one step with their weighted sum.

use crate::common::bf16;
use crate::common::numbers::random;
use crate::common::{Trainer, cpu_bits, device, device_with, encoder, finish, rule};
use wgpu_optim::{Clip, Dtype, Error, GroupOptions, Layout, OptimizerBuilder};

/// Odd lengths, an empty tensor, groups, and frozen elements.
fn layout() -> Layout {
    let builder = Layout::builder().packed().tensor("a", &[17, 30]).tensor("b", &[31]).group("slow");
    builder.tensor("none", &[0]).tensor("still", &[50]).group("still").tensor("c", &[91, 93]).build().unwrap()
}

fn grouped(builder: OptimizerBuilder) -> OptimizerBuilder {
    let builder = builder.group("slow", GroupOptions::default().with_lr_scale(0.5));
    builder.group("still", GroupOptions::default().frozen())
}

fn accumulate(training: &mut Trainer<'_>, grads: &[f32], weight: f32) {
    training.gpu.queue.write_buffer(&training.grads, 0, bytemuck::cast_slice(grads));
    let mut recorded = encoder(training.gpu);
    let all = training.grads.slice(..4 * grads.len() as u64);
    training.optimizer.accumulate(&mut recorded, all, weight).unwrap();
    training.gpu.queue.submit([recorded.finish()]);
}

fn step_accumulated(training: &mut Trainer<'_>, len: usize) -> wgpu_optim::Stats {
    let mut recorded = encoder(training.gpu);
    let params = training.params.slice(..4 * len as u64);
    training.optimizer.step_accumulated(&mut recorded, params).unwrap();
    finish(training.gpu, &training.optimizer, recorded)
}

/// Weights are powers of two, and gradients multiples of 1/64: every order of additions gives the same bits.
fn exact(seed: u64, len: usize) -> Vec<f32> {
    random(seed, len).into_iter().map(|value| (value * 64.0).round() / 64.0).collect()
}

#[test]
fn micro_batches_equal_one_batch() {
    let layout = layout();
    let len = layout.len();
    let weights = [0.5, 0.25, 0.25];
    for name in ["sgd", "adamw", "lamb", "adafactor", "lion"] {
        for clip in [None, Some(Clip::global_norm(0.5))] {
            let mut builder = grouped(rule(name));
            if let Some(clip) = clip {
                builder = builder.clip(clip);
            }
            let accumulating = builder.clone().accumulate_gradients();
            let params = random(1, len);
            let mut whole_cpu = builder.clone().build_cpu(&layout).unwrap();
            let mut cpu = accumulating.clone().build_cpu(&layout).unwrap();
            let mut whole = Trainer::new(device::gpu(), builder, &layout, &params);
            let mut parts = Trainer::new(device::gpu(), accumulating, &layout, &params);
            let (mut whole_params, mut parts_params) = (params.clone(), params.clone());
            for step in 0..3 {
                let batches: Vec<Vec<f32>> = (0..3).map(|batch| exact(10 * step + batch + 2, len)).collect();
                let sum: Vec<f32> = (0..len)
                    .map(|i| weights.iter().zip(&batches).map(|(weight, batch)| weight * batch[i]).sum())
                    .collect();
                for (weight, batch) in weights.into_iter().zip(&batches) {
                    cpu.accumulate(batch, weight).unwrap();
                    accumulate(&mut parts, batch, weight);
                }
                whole_cpu.step(&mut whole_params, &sum).unwrap();
                cpu.step_accumulated(&mut parts_params).unwrap();
                whole.step(&sum);
                step_accumulated(&mut parts, len);
            }
            assert!(
                cpu_bits(&cpu, &parts_params) == cpu_bits(&whole_cpu, &whole_params),
                "{name} on the CPU, {clip:?}"
            );
            assert!(parts.bits() == whole.bits(), "{name} on the device, {clip:?}");
        }
    }
}

/// After a step the sum begins anew, after a skipped one too; a dropped addition is none.
#[test]
fn the_accumulator_is_zero_after_every_step() {
    let layout = Layout::flat(100).unwrap();
    let builder = rule("sgd").clip(Clip::global_norm(1e9)).accumulate_gradients();
    let mut cpu = builder.clone().build_cpu(&layout).unwrap();
    let mut training = Trainer::new(device::gpu(), builder, &layout, &[1.0; 100]);
    let mut params = vec![1.0; 100];
    let mut bad = vec![1.0; 100];
    bad[3] = f32::INFINITY;
    cpu.accumulate(&bad, 1.0).unwrap();
    accumulate(&mut training, &bad, 1.0);
    assert_eq!(cpu.step_accumulated(&mut params).unwrap().first_nonfinite, Some(3));
    assert_eq!(step_accumulated(&mut training, 100).first_nonfinite, Some(3));
    let mut dropped = encoder(training.gpu);
    training.optimizer.accumulate(&mut dropped, &training.grads, 1.0).unwrap();
    drop(dropped);
    // Nothing was added: the gradients of this step are 0.
    assert_eq!(cpu.step_accumulated(&mut params).unwrap().grad_norm, Some(0.0));
    assert_eq!(step_accumulated(&mut training, 100).grad_norm, Some(0.0));
    assert_eq!((params.clone(), training.params()), (vec![1.0; 100], vec![1.0; 100]));
    cpu.accumulate(&[1.0; 100], 0.25).unwrap();
    accumulate(&mut training, &[1.0; 100], 0.25);
    assert_eq!(cpu.step_accumulated(&mut params).unwrap().grad_norm, Some(2.5));
    assert_eq!(step_accumulated(&mut training, 100).grad_norm, Some(2.5));
}

/// Gradients in bf16 and an f32 sum, in many buffers.
#[test]
fn bf16_gradients_accumulate_in_f32() {
    let layout = Layout::builder().tensor("a", &[33]).tensor("b", &[20_001]).build().unwrap();
    let len = layout.len();
    let small = device_with(|limits| limits.max_buffer_size = 48 << 10);
    for gpu in [device::gpu(), &small] {
        let builder = rule("adamw").grad_dtype(Dtype::Bf16).accumulate_gradients();
        let grads = [2, 3].map(|seed| bf16::round(&random(seed, len)));
        let mut cpu = builder.clone().build_cpu(&layout).unwrap();
        let mut optimizer = device::build(gpu, builder, &layout).unwrap();
        let mut params = random(1, len);
        let cuts: Vec<&[f32]> = params.chunks(8192).collect();
        let buffers: Vec<_> = cuts.iter().map(|part| device::upload(gpu, part)).collect();
        let slices: Vec<_> = buffers.iter().map(|buffer| buffer.slice(..)).collect();
        let mut recorded = encoder(gpu);
        for grads in &grads {
            let buffers: Vec<_> = grads.chunks(8192).map(|part| bf16::upload(gpu, part)).collect();
            let slices: Vec<_> = buffers
                .iter()
                .zip(grads.chunks(8192))
                .map(|(buffer, part)| buffer.slice(..2 * part.len() as u64))
                .collect();
            optimizer.accumulate(&mut recorded, &slices, 0.5).unwrap();
            cpu.accumulate(grads, 0.5).unwrap();
        }
        optimizer.step_accumulated(&mut recorded, &slices).unwrap();
        finish(gpu, &optimizer, recorded);
        cpu.step_accumulated(&mut params).unwrap();
        let updated: Vec<f32> = slices.iter().flat_map(|slice| device::download_slice(gpu, *slice)).collect();
        for tensor in layout.tensors() {
            assert_eq!(updated[tensor.range()], params[tensor.range()]);
        }
    }
}

#[test]
fn wrong_calls_are_refused() {
    let layout = Layout::flat(8).unwrap();
    let mut without = Trainer::new(device::gpu(), rule("sgd"), &layout, &[1.0; 8]);
    let mut recorded = encoder(without.gpu);
    let error = without.optimizer.accumulate(&mut recorded, &without.grads, 1.0).unwrap_err();
    assert!(matches!(error, Error::NoAccumulator) && error.to_string().contains("accumulate_gradients"));
    let error = without.optimizer.step_accumulated(&mut recorded, &without.params).unwrap_err();
    assert!(matches!(error, Error::NoAccumulator));
    let builder = rule("sgd").accumulate_gradients();
    let mut with = Trainer::new(device::gpu(), builder.clone(), &layout, &[1.0; 8]);
    let mut cpu = builder.build_cpu(&layout).unwrap();
    for weight in [f32::NAN, f32::INFINITY] {
        let error = with.optimizer.accumulate(&mut recorded, &with.grads, weight).unwrap_err().to_string();
        assert_eq!(error, cpu.accumulate(&[1.0; 8], weight).unwrap_err().to_string());
        assert!(error.contains("accumulate: weight is"), "{error}");
    }
    assert!(matches!(cpu.accumulate(&[1.0; 7], 1.0), Err(Error::LengthMismatch { .. })));
    let halves = [bf16::Number::ONE; 8];
    assert!(matches!(cpu.accumulate(&halves, 1.0), Err(Error::DtypeMismatch { .. })));
}
