//! burn's optimizers in float64 on its CPU backend, into `burn.json`.
//!
//! The file holds the tensors before the first step and the gradients of each step, which are f32. Each case holds the
//! optimizer as this crate's configuration files name it, and the tensors after each step. burn keeps betas, eps, weight
//! decay and bias corrections in f32.

use std::path::Path;

use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdaGradConfig, AdamConfig, AdamWConfig, LionConfig, Optimizer, RmsPropConfig, SgdConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const LENGTHS: [usize; 3] = [15, 4, 7];
const STEPS: usize = 12;
const LR: f64 = 0.02;

/// The values of each tensor.
type Tensors<T> = Vec<Vec<T>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut random = StdRng::seed_from_u64(22);
    let start: Tensors<f32> = LENGTHS.iter().map(|&len| start(&mut random, len)).collect();
    let grads: Vec<Tensors<f32>> =
        (0..STEPS).map(|_| LENGTHS.iter().map(|&len| grads(&mut random, len)).collect()).collect();
    let decay = || Some(WeightDecayConfig::new(0.1));
    let momentum = MomentumConfig::new;
    let sgd = SgdConfig::new;
    let data = (&start, &grads[..]);
    let cases = [
        play(&sgd().build(), data, json!({"name": "sgd"}))?,
        play(&sgd().with_weight_decay(decay()).build(), data, json!({"name": "sgd", "weight_decay": 0.1}))?,
        play(
            &sgd().with_momentum(Some(momentum())).with_weight_decay(decay()).build(),
            data,
            json!({"name": "sgd", "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}),
        )?,
        play(
            &sgd().with_momentum(Some(momentum().with_nesterov(true))).build(),
            data,
            json!({"name": "sgd", "momentum": 0.9, "dampening": 0.1, "nesterov": true}),
        )?,
        play(&AdamConfig::new().build(), data, json!({"name": "adam", "convention": "burn"}))?,
        play(
            &AdamConfig::new().with_amsgrad(true).with_weight_decay(decay()).build(),
            data,
            json!({"name": "adam", "convention": "burn", "amsgrad": true, "weight_decay": 0.1}),
        )?,
        play(&AdamWConfig::new().build(), data, json!({"name": "adamw", "convention": "burn"}))?,
        play(
            &AdamWConfig::new().with_amsgrad(true).with_weight_decay(1.0).build(),
            data,
            json!({"name": "adamw", "convention": "burn", "amsgrad": true, "weight_decay": 1.0}),
        )?,
        play(
            &AdamWConfig::new().with_cautious_weight_decay(true).with_weight_decay(1.0).build(),
            data,
            json!({"name": "adamw", "convention": "burn", "cautious_weight_decay": true, "weight_decay": 1.0}),
        )?,
        play(&RmsPropConfig::new().build(), data, json!({"name": "rmsprop", "convention": "burn"}))?,
        play(
            &RmsPropConfig::new().with_centered(true).with_momentum(0.0).with_weight_decay(decay()).build(),
            data,
            json!({"name": "rmsprop", "convention": "burn", "centered": true, "momentum": 0.0, "weight_decay": 0.1}),
        )?,
        play(&AdaGradConfig::new().build(), data, json!({"name": "adagrad", "convention": "burn"}))?,
        play(
            &AdaGradConfig::new().with_lr_decay(0.3).with_weight_decay(decay()).build(),
            data,
            json!({"name": "adagrad", "convention": "burn", "lr_decay": 0.3, "weight_decay": 0.1}),
        )?,
        play(&LionConfig::new().build(), data, json!({"name": "lion"}))?,
        play(&LionConfig::new().with_weight_decay(1.0).build(), data, json!({"name": "lion", "weight_decay": 1.0}))?,
    ];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_extension("json");
    let lines: Vec<String> = cases.iter().map(Value::to_string).collect();
    let (start, grads, cases) = (json!(start), json!(grads), lines.join(",\n"));
    Ok(std::fs::write(path, format!("{{\"start\":{start},\n\"grads\":{grads},\n\"cases\":[\n{cases}\n]}}\n"))?)
}

/// Steps of one optimizer over all tensors.
fn play(
    optimizer: &impl Optimizer,
    (start, grads): (&Tensors<f32>, &[Tensors<f32>]),
    mut config: Value,
) -> Result<Value, Box<dyn std::error::Error>> {
    let mut tensors: Vec<_> = start.iter().map(|values| (tensor(values), None)).collect();
    let mut params: Vec<Tensors<f64>> = Vec::new();
    for grads in grads {
        for ((param, state), grad) in tensors.iter_mut().zip(grads) {
            (*param, *state) = optimizer.step(LR, param.clone(), tensor(grad), state.take());
        }
        let values = tensors.iter().map(|(param, _)| param.to_data().try_to_vec());
        params.push(values.collect::<Result<_, _>>()?);
    }
    config["lr"] = json!(LR);
    Ok(json!({"optimizer": config, "params": params}))
}

/// Parameters of both signs. The first has no gradients, and is positive: cautious decay differs where it is not.
fn start(random: &mut StdRng, len: usize) -> Vec<f32> {
    (0..len).map(|i| if i == 0 { 1.5 } else { random.random_range(-2.0..2.0) }).collect()
}

/// Gradients around and far above burn's eps of 1e-5.
fn grads(random: &mut StdRng, len: usize) -> Vec<f32> {
    let scale = |i: usize| if i == 0 { 0.0 } else { 10.0_f32.powi(-(i as i32 % 7)) };
    (0..len).map(|i| scale(i) * random.random_range(-1.0..1.5)).collect()
}

fn tensor(values: &[f32]) -> Tensor<1> {
    let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), (&Device::flex(), DType::F64))
}
