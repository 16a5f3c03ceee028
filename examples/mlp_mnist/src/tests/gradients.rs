//! Gradients and losses of both devices against an f64 network written for the tests alone.

use wgpu_optim::wgpu;

use super::{BATCH, SIZES, TRAIN, backwards, cpu_engine, gpu_engine, random_data, read};
use mlp_mnist::cpu::Network;
use mlp_mnist::data::Examples;
use mlp_mnist::engine::{Batches, Engine, Score};
use mlp_mnist::model::Model;

/// The mean cross-entropy over `rows` of the training set in f64, straight from the definition.
fn oracle_loss(model: &Model, parameters: &[f64], examples: &Examples, rows: &[usize]) -> f64 {
    let losses = rows.iter().map(|&row| {
        let mut x: Vec<f64> = examples.image(row).iter().map(|&pixel| f64::from(pixel) / 255.0).collect();
        for (index, layer) in model.layers.iter().enumerate() {
            let (weight, bias) = (&parameters[layer.weight.clone()], &parameters[layer.bias.clone()]);
            x = (0..SIZES[index + 1])
                .map(|o| {
                    let y: f64 = bias[o] + (0..x.len()).map(|i| weight[o * x.len() + i] * x[i]).sum::<f64>();
                    if index + 1 < model.layers.len() { y.max(0.0) } else { y }
                })
                .collect();
        }
        x.iter().map(|logit| logit.exp()).sum::<f64>().ln() - x[usize::from(examples.labels[row])]
    });
    losses.sum::<f64>() / rows.len() as f64
}

/// Compares every element of every tensor with the central difference of the loss.
fn assert_gradients(model: &Model, parameters: &[f32], grads: &[f32], examples: &Examples, rows: &[usize]) {
    const STEP: f64 = 1e-6;
    let mut shifted: Vec<f64> = parameters.iter().map(|&value| value.into()).collect();
    let mut compared = 0;
    for tensor in model.layout.tensors() {
        let differences: Vec<f64> = tensor
            .range()
            .map(|element| {
                let value = shifted[element];
                shifted[element] = value + STEP;
                let above = oracle_loss(model, &shifted, examples, rows);
                shifted[element] = value - STEP;
                let below = oracle_loss(model, &shifted, examples, rows);
                shifted[element] = value;
                (above - below) / (2.0 * STEP)
            })
            .collect();
        let largest = differences.iter().fold(0.0, |largest: f64, difference| largest.max(difference.abs()));
        assert!(largest > 1e-4, "{}: a gradient of zeros would prove nothing", tensor.name());
        for (element, difference) in tensor.range().zip(differences) {
            let error = (f64::from(grads[element]) - difference).abs();
            let name = tensor.name();
            assert!(error < 2e-6 * largest, "{name}, element {element}: {} against {difference}", grads[element]);
            compared += 1;
        }
    }
    assert_eq!(compared, model.parameters());
    let used: f32 =
        model.layout.tensors().iter().flat_map(|tensor| &grads[tensor.range()]).map(|grad| grad.abs()).sum();
    let all: f32 = grads.iter().map(|grad| grad.abs()).sum();
    assert!((used - all).abs() <= 1e-5 * all, "the padding between the tensors was written");
}

fn rows_of(batch: usize) -> Vec<usize> {
    let batches = Batches { len: TRAIN, size: BATCH };
    backwards()[batches.first(batch)..][..batches.rows(batch)].iter().map(|&row| row as usize).collect()
}

#[test]
fn wgsl_gradients_agree_with_finite_differences() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(1, 41));
    let parameters = model.initial_parameters(2);
    let mut engine = gpu_engine(&model, &data, BATCH, &parameters);
    engine.begin_epoch(&backwards());
    for batch in [0, 1] {
        let mut encoder = engine.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        engine.record_gradients(&mut encoder, batch);
        engine.gpu.queue.submit([encoder.finish()]);
        let grads = read(&engine.gpu, &engine.grads);
        assert_gradients(&model, &parameters, &grads, &data.train, &rows_of(batch));
    }
}

#[test]
fn cpu_gradients_agree_with_finite_differences() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(1, 41));
    let parameters = model.initial_parameters(2);
    let mut network = Network::new(&model);
    let mut grads = vec![0.0; model.layout.len()];
    for batch in [0, 1] {
        let rows = rows_of(batch);
        network.gather(&data.train, rows.iter().copied());
        network.forward(&parameters);
        network.cross_entropy();
        network.backward(&parameters, &mut grads);
        assert_gradients(&model, &parameters, &grads, &data.train, &rows);
    }
}

/// The score of batch 1 as the engine reports it with the first step it takes.
fn first_score(engine: &mut dyn Engine) -> Score {
    engine.begin_epoch(&backwards());
    engine.step(1, true).expect("a step");
    engine.reports(true).expect("a report")[0].score
}

#[test]
fn the_loss_is_that_of_the_f64_network_on_both_devices() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(3, 41));
    let parameters = model.initial_parameters(4);
    let wide: Vec<f64> = parameters.iter().map(|&value| value.into()).collect();
    let expected = oracle_loss(&model, &wide, &data.train, &rows_of(1));
    let on_cpu = first_score(&mut cpu_engine(&model, &data, BATCH, &parameters));
    let on_gpu = first_score(&mut gpu_engine(&model, &data, BATCH, &parameters));
    for score in [on_cpu, on_gpu] {
        assert_eq!(score.examples, 33);
        assert!((score.loss() - expected).abs() < 2e-6 * expected, "{} against {expected}", score.loss());
    }
    assert_eq!(on_cpu.correct, on_gpu.correct);
    assert!((1..33).contains(&on_cpu.correct), "some are right, some wrong: {}", on_cpu.correct);
}

#[test]
fn huge_logits_do_not_overflow_the_loss() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(5, 41));
    let parameters: Vec<f32> = model.initial_parameters(6).iter().map(|value| value * 50.0).collect();
    let on_cpu = first_score(&mut cpu_engine(&model, &data, BATCH, &parameters)).loss();
    let on_gpu = first_score(&mut gpu_engine(&model, &data, BATCH, &parameters)).loss();
    assert!(on_cpu > 100.0 && on_cpu.is_finite(), "{on_cpu}");
    assert!((on_cpu - on_gpu).abs() < 1e-5 * on_cpu, "{on_cpu} against {on_gpu}");
}
