//! The gradient norm over the whole range of f32 and of lengths.

use crate::common::numbers::{cheap, random};
use crate::common::{Trainer, device, encoder, finish};
use crate::oracle::global_norm;
use approx::assert_relative_eq;
use wgpu_optim::clip::GlobalNorm;
use wgpu_optim::wgpu::{BufferDescriptor, BufferUsages};
use wgpu_optim::{Clip, Layout, Optimizer, OptimizerBuilder, Sgd, Stats};

fn clipped() -> OptimizerBuilder {
    Optimizer::builder(Sgd::default().with_lr(1.0)).clip(Clip::global_norm(1.0))
}

/// Statistics and parameters (from zero) of both engines.
fn both(grads: &[f32]) -> [(Stats, Vec<f32>); 2] {
    let layout = Layout::flat(grads.len()).unwrap();
    let zeros = vec![0.0; grads.len()];
    let mut trainer = Trainer::new(device::gpu(), clipped(), &layout, &zeros);
    let stats = trainer.step(grads);
    let mut params = zeros;
    let cpu = clipped().build_cpu(&layout).unwrap().step(&mut params, grads).unwrap();
    [(stats, trainer.params()), (cpu, params)]
}

#[test]
fn huge_gradients_are_clipped_and_tiny_ones_measured() {
    for len in [1, 7, 1000, 20_000] {
        for magnitude in [1e-30, 1e-20, 1e-3, 1.0, 1e15, 1e30, 1e38] {
            let grads: Vec<f32> = (0..len).map(|i| (1.0 + cheap(i) / 2.0) * magnitude).collect();
            let norm = global_norm(&grads);
            for (stats, params) in both(&grads) {
                assert_eq!((stats.step, stats.skipped, stats.first_nonfinite), (1, 0, None), "{len} of {magnitude:e}");
                if norm < f64::from(f32::MAX) {
                    assert_relative_eq!(f64::from(stats.grad_norm.unwrap()), norm, max_relative = 1e-6);
                } else {
                    assert_eq!(stats.grad_norm, Some(f32::INFINITY));
                }
                let coef = (1.0 / (norm + 1e-6)).min(1.0);
                // The coefficient of an enormous norm may itself be subnormal, with the precision of one.
                let subnormal = if coef < f64::from(f32::MIN_POSITIVE) { 2f64.powi(-149) } else { 0.0 };
                for (param, grad) in params.iter().zip(&grads) {
                    let expected = -f64::from(*grad) * coef;
                    let tolerance = expected.abs() * 2e-6 + f64::from(*grad) * subnormal;
                    assert!(
                        (f64::from(*param) - expected).abs() <= tolerance,
                        "{len} of {magnitude:e}: {param} for {expected}"
                    );
                }
            }
        }
    }
}

/// Magnitudes of the whole range side by side, so that partial sums of very different scale meet in the sums of lanes.
#[test]
fn mixed_magnitudes_add_up() {
    for (largest, rest) in [(1e30, 1e-30), (1e10, 1e9), (1e-10, 1e-11), (3e38, 1e19), (1e-38, 1e-30)] {
        for at in [0, 5_000, 29_999] {
            let mut grads: Vec<f32> = (0..30_000).map(|i| rest * (1.0 + cheap(i) / 2.0)).collect();
            grads[at] = largest;
            for (stats, _) in both(&grads) {
                assert_relative_eq!(f64::from(stats.grad_norm.unwrap()), global_norm(&grads), max_relative = 1e-6);
            }
        }
    }
}

#[test]
fn every_element_counts_once() {
    for len in [1usize, 4, 5, 1023, 1024, 1025, 8191, 8192, 8193, 16_384, 3 * 8192 + 17] {
        for at in [0, 1, len / 3, len / 2, len.saturating_sub(2), len - 1] {
            let mut grads = vec![0.0; len];
            grads[at.min(len - 1)] = -3.0;
            for (stats, _) in both(&grads) {
                assert_eq!(stats.grad_norm, Some(3.0), "element {at} of {len}");
            }
        }
        for (stats, _) in both(&vec![0.5; len]) {
            assert_relative_eq!(f64::from(stats.grad_norm.unwrap()), 0.5 * (len as f64).sqrt(), max_relative = 1e-6);
        }
    }
}

#[test]
fn zero_gradients_have_norm_zero_and_move_nothing() {
    for (stats, params) in both(&[0.0, -0.0, 0.0, 0.0, 0.0]) {
        assert_eq!((stats.grad_norm, stats.clip_coef, stats.step), (Some(0.0), 1.0, 1));
        assert_eq!(params, [0.0; 5]);
    }
}

/// Both engines add in the same order; on a device that fuses nothing the norm has the same bits.
#[test]
fn the_engines_agree_on_the_norm() {
    for len in [3, 9000, 100_000] {
        let [(device, _), (cpu, _)] = both(&random(5, len));
        assert_relative_eq!(device.grad_norm.unwrap(), cpu.grad_norm.unwrap(), max_relative = 1e-6);
    }
}

/// NUMERICS: at most 1e-6 relative at 2²⁸ elements, here with one element more than that, in several bindings.
#[test]
fn two_to_the_28_gradients_have_the_right_norm() {
    const LEN: usize = (1 << 28) + 1;
    let gpu = device::gpu();
    let layout = Layout::flat(LEN).unwrap();
    let mut optimizer = device::build(gpu, clipped(), &layout).unwrap();
    // One buffer each, or half a gigabyte in each of three where no buffer holds all.
    let most = if layout.buffer_size() <= gpu.device.limits().max_buffer_size { LEN } else { 1 << 27 };
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
    let buffer = |elements: usize, mapped_at_creation| {
        let size = 4 * elements as u64;
        gpu.device.create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation })
    };
    let (mut params, mut grads, mut squares) = (Vec::new(), Vec::new(), 0.0);
    for part in (0..LEN).step_by(most).map(|start| start..LEN.min(start + most)) {
        params.push(buffer(part.len(), false));
        let filled = buffer(part.len(), true);
        let mut view = filled.get_mapped_range_mut(..).unwrap();
        for start in part.clone().step_by(1 << 20) {
            let block: Vec<_> = (start..part.end.min(start + (1 << 20))).map(cheap).collect();
            squares += block.iter().map(|&grad| f64::from(grad).powi(2)).sum::<f64>();
            let at = 4 * (start - part.start);
            view.slice(at..at + 4 * block.len()).copy_from_slice(bytemuck::cast_slice(&block));
        }
        drop(view);
        filled.unmap();
        grads.push(filled);
    }
    let [params_list, grads_list] =
        [&params, &grads].map(|buffers| buffers.iter().map(|buffer| buffer.slice(..)).collect::<Vec<_>>());
    let mut recorded = encoder(gpu);
    optimizer.step(&mut recorded, &params_list, &grads_list).unwrap();
    let stats = finish(gpu, &optimizer, recorded);
    assert_relative_eq!(f64::from(stats.grad_norm.unwrap()), squares.sqrt(), max_relative = 1e-6);
    // Both ends of every gigabyte were updated.
    let coef = 1.0 / squares.sqrt();
    for element in [0, LEN / 2, LEN - 4].into_iter().flat_map(|start| start..start + 4) {
        let at = 4 * (element % most) as u64;
        let param = device::download_slice(gpu, params[element / most].slice(at..at + 4))[0];
        assert_relative_eq!(f64::from(param), -f64::from(cheap(element)) * coef, max_relative = 2e-6);
    }
}

/// The lengths at which 1-D dispatches and default bindings end.
#[test]
fn lengths_around_the_limits_are_updated_to_the_last_element() {
    let gpu = device::gpu();
    let (dispatch, binding) = (16_776_960, 33_554_432);
    for len in [dispatch - 1, dispatch, dispatch + 1, binding - 1, binding, binding + 1] {
        let layout = Layout::flat(len).unwrap();
        let grads: Vec<f32> = (0..len).map(cheap).collect();
        let builder = Optimizer::builder(Sgd::default().with_lr(1.0));
        let mut trainer = Trainer::new(gpu, builder, &layout, &vec![0.0; len]);
        assert_eq!(trainer.step(&grads).step, 1);
        let wrong = trainer.params().into_iter().zip(&grads).position(|(param, grad)| param != -grad);
        assert_eq!(wrong, None, "{len} elements");
    }
}

/// Wherever in its block, and whatever comes behind it.
#[test]
fn the_first_nonfinite_gradient_is_named_and_the_largest_found_in_every_row_of_a_block() {
    const LEN: usize = 8_192 + 40;
    let layout = Layout::flat(LEN).unwrap();
    let mut trainer = Trainer::new(device::gpu(), clipped(), &layout, &vec![0.0; LEN]);
    // Every row that a workgroup loads at once.
    for element in (0..32).map(|row| 256 * row + 5 * row + 2).chain([8_191, 8_192, LEN - 1]) {
        let mut grads = vec![1.0; LEN];
        grads[element] = 1e30;
        let stats = trainer.step(&grads);
        assert_eq!(stats.first_nonfinite, None);
        assert_relative_eq!(stats.grad_norm.unwrap(), 1e30, max_relative = 1e-6);
        for bad in [f32::NAN, f32::INFINITY] {
            grads[element] = bad;
            assert_eq!(trainer.step(&grads).first_nonfinite, Some(element as u64));
            for behind in [1, 256, 512, 1_024, 2_048, LEN].map(|distance| element + distance) {
                let mut grads = grads.clone();
                grads[behind.min(LEN - 1)] = f32::NEG_INFINITY;
                assert_eq!(trainer.step(&grads).first_nonfinite, Some(element as u64), "and {behind}");
            }
        }
    }
}

/// Both engines add in the same order: of absolute values every sum is rounded alike, whatever the device makes of products.
#[test]
fn sums_of_absolute_values_have_the_same_bits_on_both_engines() {
    let builder = Optimizer::builder(Sgd::default()).clip(GlobalNorm::new(1.0).with_norm_type(1.0));
    // One block, and more than a stage of `finish` leaves.
    for len in [8192, 40 * 8192] {
        let layout = Layout::flat(len).unwrap();
        for seed in 0..4 {
            let grads = random(seed, len);
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &grads);
            let mut cpu = builder.clone().build_cpu(&layout).unwrap();
            let norms = [trainer.step(&grads), cpu.step(&mut grads.clone(), &grads).unwrap()];
            let [on_device, on_cpu] = norms.map(|stats| stats.grad_norm.map(f32::to_bits));
            assert_eq!(on_device, on_cpu, "{len} elements, seed {seed}");
        }
    }
}
