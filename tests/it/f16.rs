//! Gradients in f16: a step takes them as it takes the f32 of the same values.

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{device, encoder, finish, state, storage};
use wgpu_optim::half::f16;
use wgpu_optim::wgpu::{Buffer, BufferUsages};
use wgpu_optim::{AdamW, Clip, Dtype, GradScaler, Lamb, Layout, NonFinite, Optimizer, Sgd};

/// A storage buffer of whole words, with `ahead` other numbers first.
fn upload(values: &[f16], ahead: usize) -> Buffer {
    let mut bits = vec![f16::NAN.to_bits(); ahead];
    bits.extend(values.iter().map(|value| value.to_bits()));
    bits.resize(bits.len().next_multiple_of(2), f16::NAN.to_bits());
    let gpu = device::gpu();
    let buffer = storage(gpu, 2 * bits.len() as u64, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
    gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&bits));
    buffer
}

/// Every f16, also from a binding that begins at an odd number: -1 times the gradient is the parameter.
#[test]
fn every_number_is_widened() {
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let exact: Vec<f32> = all.iter().map(|number| -number.to_f32()).collect();
    let gpu = device::gpu();
    for tensors in [vec![65_536], vec![1, 65_530, 5]] {
        let tensor =
            |layout: wgpu_optim::LayoutBuilder, (i, len): (usize, &usize)| layout.tensor(i.to_string(), &[*len]);
        let layout = tensors.iter().enumerate().fold(Layout::builder().packed(), tensor).build().unwrap();
        let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).grad_dtype(Dtype::F16);
        let builder = builder.on_nonfinite(NonFinite::Propagate);
        let mut on_cpu = vec![0.0; all.len()];
        builder.clone().build_cpu(&layout).unwrap().step(&mut on_cpu, &all).unwrap();
        let mut optimizer = device::build(gpu, builder, &layout).unwrap();
        let (params, grads) = (device::upload(gpu, &vec![0.0; all.len()]), upload(&all, 6));
        let mut recorded = encoder(gpu);
        // A slice per tensor of the parameters cuts chunks at odd numbers.
        let slices: Vec<_> = layout
            .tensors()
            .iter()
            .map(|tensor| params.slice(4 * tensor.range().start as u64..4 * tensor.range().end as u64))
            .collect();
        optimizer.step(&mut recorded, &slices, grads.slice(12..)).unwrap();
        finish(gpu, &optimizer, recorded);
        let on_device = device::download(gpu, &params);
        for (found, engine) in [(on_cpu, "CPU"), (on_device, "device")] {
            for (i, (found, exact)) in found.iter().zip(&exact).enumerate() {
                let is_same = found.to_bits() == exact.to_bits() || (*exact == 0.0 && *found == 0.0);
                assert!(is_same || (found.is_nan() && exact.is_nan()), "{engine}, f16 {i:#06x}: {found} for {exact}");
            }
        }
    }
}

#[test]
fn steps_are_those_of_the_same_values_in_f32() {
    let gpu = device::gpu();
    for layout in [Layout::builder(), Layout::builder().packed()] {
        let layout = layout.tensor("a", &[129, 67]).tensor("b", &[3]).tensor("c", &[8_195]).build().unwrap();
        let narrow: Vec<f16> = random(2, layout.len()).into_iter().map(|grad| f16::from_f32(100.0 * grad)).collect();
        let wide: Vec<f32> = narrow.iter().map(|grad| grad.to_f32()).collect();
        for builder in [
            Optimizer::builder(AdamW::default()),
            Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0)),
            Optimizer::builder(Lamb::default()),
            Optimizer::builder(Sgd::default()).grad_scaler(GradScaler::default().with_init_scale(128.0)),
        ] {
            let mut outcomes = Vec::new();
            for dtype in [Dtype::F32, Dtype::F16] {
                let builder = builder.clone().grad_dtype(dtype);
                let mut on_cpu = random(1, layout.len());
                let mut engine = builder.clone().build_cpu(&layout).unwrap();
                let mut optimizer = device::build(gpu, builder, &layout).unwrap();
                let params = device::upload(gpu, &on_cpu);
                let grads = if dtype == Dtype::F16 { upload(&narrow, 0) } else { device::upload(gpu, &wide) };
                let mut recorded = encoder(gpu);
                for _ in 0..3 {
                    if dtype == Dtype::F16 {
                        engine.step(&mut on_cpu, &narrow).unwrap();
                    } else {
                        engine.step(&mut on_cpu, &wide).unwrap();
                    }
                    let slice = grads.slice(..dtype.bytes(layout.len() as u64));
                    optimizer.step(&mut recorded, &params, slice).unwrap();
                }
                finish(gpu, &optimizer, recorded);
                let states = optimizer.state_names().into_iter().flat_map(|name| state(gpu, &optimizer, name));
                let on_device: Vec<f32> = device::download(gpu, &params).into_iter().chain(states).collect();
                outcomes.push((on_cpu, on_device));
            }
            assert_same_bits(&outcomes[0].0, &outcomes[1].0, "CPU");
            assert_same_bits(&outcomes[0].1, &outcomes[1].1, "device");
        }
    }
}

/// A scaled gradient that overflows in f16 is skipped, and the scale falls until it fits.
#[test]
fn an_overflow_lowers_the_scale() {
    let scaler = GradScaler::default().with_init_scale(2f64.powi(20));
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).grad_dtype(Dtype::F16).grad_scaler(scaler);
    let mut optimizer = builder.build_cpu(&Layout::flat(1).unwrap()).unwrap();
    let mut params = [0.0];
    for _ in 0..8 {
        let grad = f16::from_f32(-optimizer.loss_scale().unwrap());
        optimizer.step(&mut params, &[grad]).unwrap();
    }
    // The largest f16 is 65,504: five steps are skipped.
    assert_eq!((params, optimizer.loss_scale(), optimizer.stats().skipped), ([3.0], Some(32_768.0), 5));
}
