//! Both devices against each other, and whole runs.

mod gradients;
mod precision;

use std::sync::Arc;

use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::wgpu::{self, BufferUsages};
use wgpu_optim::{AdamW, Clip, Gpu, Optimizer, OptimizerBuilder, Precision, Stats};

use crate::args::Args;
use crate::train::{History, Plan, Saving, train};
use mlp_mnist::cpu::CpuEngine;
use mlp_mnist::data::{CLASSES, Data, Examples, digits};
use mlp_mnist::engine::{Batches, Engine};
use mlp_mnist::gpu::GpuEngine;
use mlp_mnist::model::Model;
use mlp_mnist::precision::Format;

/// Odd sizes: workgroups are left over on every side, images end inside a word, there is more than one hidden layer.
const SIZES: [usize; 4] = [37, 70, 18, CLASSES];
const TRAIN: usize = 83;
/// The last batch has 33 examples.
const BATCH: usize = 50;

fn open_gpu() -> Gpu {
    pollster::block_on(Gpu::new()).expect("these tests need an adapter, a software one will do")
}

fn random_data(seed: u64, test: usize) -> Data {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut examples = |len: usize| Examples {
        images: (0..len * SIZES[0]).map(|_| rng.random()).collect(),
        labels: (0..len).map(|_| rng.random_range(0..CLASSES as u8)).collect(),
        pixels: SIZES[0],
    };
    Data { train: examples(TRAIN), test: examples(test) }
}

fn adamw() -> OptimizerBuilder {
    Optimizer::builder(AdamW::default().with_lr(4e-3)).clip(Clip::global_norm(1.0))
}

fn cpu_engine<'a>(model: &'a Model, data: &'a Data, batch_size: usize, parameters: &[f32]) -> CpuEngine<'a> {
    cpu_engine_in(&Format::default(), model, data, batch_size, parameters)
}

fn cpu_engine_in<'a>(
    format: &Format,
    model: &'a Model,
    data: &'a Data,
    batch_size: usize,
    parameters: &[f32],
) -> CpuEngine<'a> {
    let optimizer = format.builder(adamw()).build_cpu(&model.layout).expect("valid");
    CpuEngine::new(model, data, optimizer, &format.precision, batch_size, parameters).expect("floats")
}

fn gpu_engine(model: &Model, data: &Data, batch_size: usize, parameters: &[f32]) -> GpuEngine {
    gpu_engine_in(&Format::default(), model, data, batch_size, parameters)
}

fn gpu_engine_in(format: &Format, model: &Model, data: &Data, batch_size: usize, parameters: &[f32]) -> GpuEngine {
    let gpu = open_gpu();
    let optimizer = format.builder(adamw()).build(&gpu.device, &gpu.queue, &model.layout).expect("valid");
    GpuEngine::new(gpu, model, data, optimizer, &format.precision, batch_size, parameters).expect("small enough")
}

fn read<T: bytemuck::Pod>(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<T> {
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

/// An order of the examples that shows whether it is followed.
fn backwards() -> Vec<u32> {
    (0..TRAIN as u32).rev().collect()
}

/// The test set fills more than one pass on either device, and the last one only in part.
#[test]
fn both_devices_give_the_test_set_the_same_score_every_time() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(7, 1_103));
    let parameters = model.initial_parameters(8);
    let on_cpu = cpu_engine(&model, &data, BATCH, &parameters).evaluate().expect("a score");
    let mut engine = gpu_engine(&model, &data, BATCH, &parameters);
    for _ in 0..2 {
        let on_gpu = engine.evaluate().expect("a score");
        assert_eq!((on_gpu.examples, on_gpu.correct), (1_103, on_cpu.correct));
        assert!((on_gpu.loss() - on_cpu.loss()).abs() < 1e-5 * on_cpu.loss());
    }
}

fn plan(data: &Data, batch_size: usize, epochs: usize, seed: u64) -> Plan {
    Plan { batches: Batches { len: data.train.len(), size: batch_size }, epochs, max_steps: None, seed, done: 0 }
}

#[test]
fn the_same_seed_gives_the_same_parameters_bit_for_bit() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(9, 41));
    let run_cpu = |seed| {
        let mut engine = cpu_engine(&model, &data, 20, &model.initial_parameters(seed));
        train(&mut engine, &plan(&data, 20, 3, seed), &Saving::default()).expect("trained");
        engine.parameters.to_f32()
    };
    let run_gpu = |seed| {
        let mut engine = gpu_engine(&model, &data, 20, &model.initial_parameters(seed));
        train(&mut engine, &plan(&data, 20, 3, seed), &Saving::default()).expect("trained");
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
    let history = train(engine, &plan, &Saving::default()).expect("trained");
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
fn reports_nobody_collects_are_kept_in_order() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(10, 1));
    let mut engine = gpu_engine(&model, &data, 7, &model.initial_parameters(11));
    engine.begin_epoch(&backwards());
    for batch in 0..12 {
        engine.step(batch, true).expect("a step");
    }
    let reports = engine.reports(true).expect("reports");
    let seen: Vec<_> = reports.iter().map(|report| (report.stats.step, report.score.examples)).collect();
    let expected: Vec<_> = (1..=12).map(|step| (step, if step == 12 { 6 } else { 7 })).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_run_can_stop_inside_an_epoch() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(12, 41));
    let mut engine = cpu_engine(&model, &data, 20, &model.initial_parameters(13));
    let plan = Plan { max_steps: Some(7), ..plan(&data, 20, 4, 1) };
    let history = train(&mut engine, &plan, &Saving::default()).expect("trained");
    assert_eq!(history.train.last().expect("reports").step, 7);
    assert_eq!(history.test.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [5, 7]);
}

#[test]
fn a_resumed_run_ends_where_an_uninterrupted_one_does() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(14, 41));
    let folder = tempfile::tempdir().expect("a folder");
    let saving = Saving { path: Some(folder.path().join("run")), ..Saving::default() };
    let path = saving.path.as_ref().expect("given");
    let whole = plan(&data, 20, 3, 1);
    let train_part = |engine: &mut dyn Engine, plan: &Plan| {
        let done = if plan.done > 0 { crate::resume(engine, path).expect("saved") } else { 0 };
        assert_eq!(done, plan.done);
        train(engine, plan, &saving).expect("trained");
    };
    let run_cpu = |plans: &[Plan]| {
        let mut parameters: Vec<f32> = Vec::new();
        for plan in plans {
            let mut engine = cpu_engine(&model, &data, 20, &model.initial_parameters(1));
            train_part(&mut engine, plan);
            parameters = engine.parameters.to_f32();
        }
        parameters
    };
    let run_gpu = |plans: &[Plan]| {
        let mut parameters: Vec<f32> = Vec::new();
        for plan in plans {
            let mut engine = gpu_engine(&model, &data, 20, &model.initial_parameters(1));
            train_part(&mut engine, plan);
            parameters = read(&engine.gpu, &engine.parameters);
        }
        parameters
    };
    // Within an epoch, and at its end.
    for steps in [7, 10] {
        let parts = [Plan { max_steps: Some(steps), ..whole }, Plan { done: steps, ..whole }];
        assert_eq!(run_cpu(&parts), run_cpu(&[whole]));
        assert_eq!(run_gpu(&parts), run_gpu(&[whole]));
    }
}

#[test]
fn an_interrupted_run_saves_and_ends() {
    let (model, data) = (Model::new(&SIZES).expect("valid"), random_data(15, 41));
    let folder = tempfile::tempdir().expect("a folder");
    let saving = Saving { path: Some(folder.path().join("run")), interrupted: Arc::new(true.into()) };
    let mut engine = cpu_engine(&model, &data, 20, &model.initial_parameters(1));
    let history = train(&mut engine, &plan(&data, 20, 3, 1), &saving).expect("ended");
    assert_eq!(history.test.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1]);
    let checkpoint = Checkpoint::open(saving.path.expect("given")).expect("saved");
    assert_eq!(checkpoint.stats().step, 1);
}

#[test]
fn a_history_has_a_line_for_each_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let [plot, history] = ["curves.svg", "steps.csv"].map(|name| folder.path().join(name).display().to_string());
    for device in ["cpu", "gpu"] {
        let flags = ["--hidden", "8", "--max-steps", "52", "--device", device, "--history", &history];
        let plot: &[&str] = if cfg!(feature = "plot") { &["--plot", &plot] } else { &[] };
        let flags = ["mlp_mnist"].iter().chain(&flags).chain(plot);
        let args = Args::try_parse_from(flags).expect("well formed");
        crate::run(&args).expect("trained");
        let rows = csv::Reader::from_path(&history).expect("written").into_deserialize::<Stats>();
        let rows: Vec<Stats> = rows.map(|row| row.expect("a step")).collect();
        assert!(rows.iter().map(|stats| stats.step).eq(1..=52));
        let observed: Vec<u64> = rows.iter().filter(|row| row.update_norm.is_some()).map(|row| row.step).collect();
        assert_eq!(observed, [1, 51]);
    }
}

#[test]
fn what_the_device_cannot_bind_is_refused() {
    let data = digits::draw_counts(1, 10, 10);
    let refusal = |hidden: usize, rows: usize| {
        let model = Model::new(&[data.train.pixels, hidden, CLASSES]).expect("valid");
        let gpu = open_gpu();
        let optimizer = adamw().build(&gpu.device, &gpu.queue, &model.layout).expect("valid");
        let parameters = model.initial_parameters(1);
        let refused = GpuEngine::new(gpu, &model, &data, optimizer, &Precision::default(), rows, &parameters);
        refused.err().expect("too large").to_string()
    };
    let limits = open_gpu().device.limits();
    let rows = limits.max_compute_workgroups_per_dimension as usize;
    let message = refusal(1, rows + 1);
    assert!(message.contains(&format!("a batch of {} is more than this device's {rows}", rows + 1)), "{message}");
    let bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) as usize;
    let message = refusal(bytes / (4 * rows) + 1, rows);
    assert!(message.contains("the activations of a batch take"), "{message}");
}

#[test]
fn a_batch_larger_than_the_data_is_refused_before_anything_runs() {
    let args = Args::try_parse_from(["mlp_mnist", "--batch-size", "20001"]).expect("well formed");
    let message = crate::run(&args).expect_err("more than there is").to_string();
    assert!(message.contains("--batch-size is 20001, but there are 20000 training examples"), "{message}");
}
