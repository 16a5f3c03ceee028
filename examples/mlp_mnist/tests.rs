//! Both devices against an f64 network written for the tests alone, and against each other.

use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_optim::wgpu::{self, BufferUsages};
use wgpu_optim::{AdamW, Clip, Gpu, Optimizer, OptimizerBuilder};

use crate::args::Args;
use crate::cpu::{CpuEngine, Network};
use crate::data::{CLASSES, Data, Examples, digits};
use crate::engine::{Batches, Engine, Score};
use crate::gpu::GpuEngine;
use crate::model::Model;
use crate::train::{History, Plan, train};

/// Odd sizes: tiles of 32 are left over on every side, images end inside a word, there is more than one hidden layer.
const SIZES: [usize; 4] = [37, 45, 18, CLASSES];
const TRAIN: usize = 83;
/// The last batch has 33 examples.
const BATCH: usize = 50;

fn open_gpu() -> Gpu {
    pollster::block_on(Gpu::new()).expect("these tests need an adapter, a software one will do")
}

fn random_data(seed: u64) -> Data {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut examples = |len: usize| Examples {
        images: (0..len * SIZES[0]).map(|_| rng.random()).collect(),
        labels: (0..len).map(|_| rng.random_range(0..CLASSES as u8)).collect(),
        pixels: SIZES[0],
    };
    Data { train: examples(TRAIN), test: examples(41) }
}

fn adamw() -> OptimizerBuilder {
    Optimizer::builder(AdamW::default().with_lr(4e-3)).clip(Clip::global_norm(1.0))
}

fn cpu_engine<'a>(model: &'a Model, data: &'a Data, batch_size: usize, parameters: &[f32]) -> CpuEngine<'a> {
    let optimizer = adamw().build_cpu(&model.layout).expect("valid");
    CpuEngine::new(model, data, optimizer, batch_size, parameters.to_vec())
}

fn gpu_engine(model: &Model, data: &Data, batch_size: usize, parameters: &[f32]) -> GpuEngine {
    let gpu = open_gpu();
    let optimizer = adamw().build(&gpu.device, &model.layout).expect("valid");
    GpuEngine::new(gpu, model, data, optimizer, batch_size, parameters).expect("small enough")
}

fn read(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<f32> {
    let copy = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffer.size(),
        usage: BufferUsages::COPY_DST | BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, buffer.size());
    gpu.queue.submit([encoder.finish()]);
    copy.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("mapped"));
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
    let view = copy.get_mapped_range(..).expect("mapped");
    bytemuck::pod_collect_to_vec(&view)
}

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

/// The order of the examples that the gradient tests set: backwards, so that it matters.
fn backwards() -> Vec<u32> {
    (0..TRAIN as u32).rev().collect()
}

fn rows_of(batch: usize) -> Vec<usize> {
    let batches = Batches { len: TRAIN, size: BATCH };
    backwards()[batches.first(batch)..][..batches.rows(batch)].iter().map(|&row| row as usize).collect()
}

#[test]
fn wgsl_gradients_agree_with_finite_differences() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(1));
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
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(1));
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
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(3));
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
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(5));
    let parameters: Vec<f32> = model.initial_parameters(6).iter().map(|value| value * 50.0).collect();
    let on_cpu = first_score(&mut cpu_engine(&model, &data, BATCH, &parameters)).loss();
    let on_gpu = first_score(&mut gpu_engine(&model, &data, BATCH, &parameters)).loss();
    assert!(on_cpu > 100.0 && on_cpu.is_finite(), "{on_cpu}");
    assert!((on_cpu - on_gpu).abs() < 1e-5 * on_cpu, "{on_cpu} against {on_gpu}");
}

#[test]
fn both_devices_give_the_test_set_the_same_score_every_time() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(7));
    let parameters = model.initial_parameters(8);
    let on_cpu = cpu_engine(&model, &data, BATCH, &parameters).evaluate().expect("a score");
    let mut engine = gpu_engine(&model, &data, BATCH, &parameters);
    for _ in 0..2 {
        let on_gpu = engine.evaluate().expect("a score");
        assert_eq!((on_gpu.examples, on_gpu.correct), (41, on_cpu.correct));
        assert!((on_gpu.loss() - on_cpu.loss()).abs() < 1e-5 * on_cpu.loss());
    }
}

fn plan(data: &Data, batch_size: usize, epochs: usize, seed: u64) -> Plan {
    Plan { batches: Batches { len: data.train.len(), size: batch_size }, epochs, max_steps: None, seed }
}

#[test]
fn the_same_seed_gives_the_same_parameters_bit_for_bit() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(9));
    let run_cpu = |seed| {
        let mut engine = cpu_engine(&model, &data, 20, &model.initial_parameters(seed));
        train(&mut engine, &plan(&data, 20, 3, seed)).expect("trained");
        engine.parameters
    };
    let run_gpu = |seed| {
        let mut engine = gpu_engine(&model, &data, 20, &model.initial_parameters(seed));
        train(&mut engine, &plan(&data, 20, 3, seed)).expect("trained");
        read(&engine.gpu, &engine.parameters)
    };
    for run in [&run_cpu as &dyn Fn(u64) -> Vec<f32>, &run_gpu] {
        let bits = |seed| run(seed).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(1), bits(1));
        assert_ne!(bits(1), bits(2));
    }
    let (cpu, gpu) = (run_cpu(1), run_gpu(1));
    let furthest = cpu.iter().zip(&gpu).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest < 1e-4, "after 15 steps the devices are {furthest} apart");
}

/// A run over drawn digits; returns its history and checks that every example was reported once.
fn learn(engine: &mut dyn Engine, data: &Data) -> History {
    let plan = plan(data, 32, 4, 1);
    let history = train(engine, &plan).expect("trained");
    let reported: u64 = history.train.iter().map(|point| point.score.examples).sum();
    assert_eq!(reported, 4 * data.train.len() as u64);
    assert!(history.train.is_sorted_by(|a, b| a.step < b.step));
    assert_eq!(history.train.last().expect("reports").step, plan.total_steps());
    assert_eq!(history.test.len(), 4);
    history
}

fn assert_learned(history: &History) {
    let (first, last) = (&history.train[0], history.train.last().expect("reports"));
    assert!(last.score.loss() < 0.5 * first.score.loss(), "{} to {}", first.score.loss(), last.score.loss());
    let (_, test) = history.test.last().expect("evaluated");
    assert!(test.accuracy() > 65.0, "{} % of the test set", test.accuracy());
    assert!(history.train.iter().all(|point| point.grad_norm.is_some_and(|norm| norm > 0.0)));
}

#[test]
fn the_cpu_engine_learns_drawn_digits() {
    let data = digits::draw_counts(1, 2_000, 300);
    let model = Model::new(&[data.train.pixels, 32, CLASSES]).expect("valid");
    assert_learned(&learn(&mut cpu_engine(&model, &data, 32, &model.initial_parameters(1)), &data));
}

#[test]
fn any_adapter_learns_drawn_digits() {
    let data = digits::draw_counts(1, 2_000, 300);
    let model = Model::new(&[data.train.pixels, 32, CLASSES]).expect("valid");
    assert_learned(&learn(&mut gpu_engine(&model, &data, 32, &model.initial_parameters(1)), &data));
}

#[test]
fn a_batch_that_the_device_cannot_bind_is_refused() {
    let data = digits::draw_counts(1, 10, 10);
    let model = Model::new(&[data.train.pixels, CLASSES]).expect("valid");
    let gpu = open_gpu();
    let optimizer = adamw().build(&gpu.device, &model.layout).expect("valid");
    let rows = gpu.device.limits().max_compute_workgroups_per_dimension as usize + 1;
    let refused = GpuEngine::new(gpu, &model, &data, optimizer, rows, &model.initial_parameters(1));
    let message = refused.err().expect("too many rows").to_string();
    assert!(message.contains("choose a smaller --batch-size"), "{message}");
}

#[test]
fn a_batch_larger_than_the_data_is_refused_before_anything_runs() {
    let args = Args::try_parse_from(["mlp_mnist", "--batch-size", "20001"]).expect("well formed");
    let message = crate::run(&args).expect_err("more than there is").to_string();
    assert!(message.contains("--batch-size is 20001, but there are 20000 training examples"), "{message}");
}
