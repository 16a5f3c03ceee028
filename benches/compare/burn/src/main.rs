//! Times burn's AdamW on its wgpu backend, with and without clipping, and prints one JSON object per case.
//!
//! `cargo run --release -- ELEMENTS:TENSORS …`

use std::time::Instant;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::{Device, DeviceKind};

/// Steps that are timed, after two that are not.
const STEPS: usize = 9;

#[derive(Module, Debug)]
struct Model {
    tensors: Vec<Param<Tensor<1>>>,
}

fn gradients(model: &Model, device: &Device) -> GradientsParams {
    let mut gradients = GradientsParams::new();
    for tensor in &model.tensors {
        let shape = tensor.val().shape();
        gradients.register(tensor.id, Tensor::<1>::full(shape, 1e-3, device));
    }
    gradients
}

/// `clip`: burn's clipping by norm, of each tensor on its own, as it has no global one.
fn seconds(elements: usize, tensors: usize, clip: bool, device: &Device) -> Vec<f64> {
    let trained = device.clone().autodiff();
    let tensor = |i: usize| {
        let len = elements * (i + 1) / tensors - elements * i / tensors;
        Param::from_tensor(Tensor::<1>::ones([len], &trained))
    };
    let mut model = Model { tensors: (0..tensors).map(tensor).collect() };
    let mut config = AdamWConfig::new().with_weight_decay(0.01).with_epsilon(1e-8);
    if clip {
        config = config.with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)));
    }
    let mut optimizer = config.init();
    let mut times = Vec::new();
    for step in 0..STEPS + 2 {
        let gradients = gradients(&model, device);
        device.sync().expect("the device answers");
        let start = Instant::now();
        model = optimizer.step(1e-3, model, gradients);
        device.sync().expect("the device answers");
        if step >= 2 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    times
}

fn main() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    for case in std::env::args().skip(1) {
        let numbers = case.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let Some((elements, tensors)) = numbers else {
            eprintln!("{case}: expected ELEMENTS:TENSORS, as 1048576:1");
            std::process::exit(2);
        };
        for clip in [false, true] {
            let times = seconds(elements, tensors, clip, &device);
            let (median, min) = (times[times.len() / 2], times[0]);
            let row = serde_json::json!({
                "engine": "burn 0.22.0 (wgpu)", "rule": "adamw", "precision": "f32", "clip": clip,
                "elements": elements, "tensors": tensors, "seconds_median": median, "seconds_min": min,
            });
            println!("{row}");
        }
    }
}
