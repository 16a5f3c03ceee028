//! Every storage format on both devices.

use wgpu_optim::half::{bf16, f16};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::{Dtype, Gpu, Precision, wgpu};

use super::{
    BATCH, TRAIN, adamw, assert_learned, backwards, cpu_engine_in, gpu_engine_in, learn, open_gpu, plan, read,
};
use crate::train::{Saving, scales, train};
use examples_common::numbers::Numbers;
use mlp_mnist::cpu::{CpuEngine, Network};
use mlp_mnist::data::{CLASSES, Data, Examples, digits};
use mlp_mnist::engine::Engine;
use mlp_mnist::gpu::GpuEngine;
use mlp_mnist::model::Model;
use mlp_mnist::precision::{Format, names};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Even, with workgroups left over on every side. A bias and a matrix begin between two places that a device can bind.
const SIZES: [usize; 4] = [38, 190, 18, CLASSES];

fn format(name: &str) -> Format {
    Format::new(name, 1, None).expect("known")
}

fn model_of(sizes: &[usize], format: &Format) -> Model {
    Model::aligned(sizes, format.alignment()).expect("valid")
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

/// The numbers of a buffer, without those that only round its size up.
fn numbers(gpu: &Gpu, buffer: &wgpu::Buffer, dtype: Dtype, len: usize) -> Numbers {
    let bits = || read::<u16>(gpu, buffer).into_iter().take(len);
    match dtype {
        Dtype::Bf16 => Numbers::Bf16(bits().map(bf16::from_bits).collect()),
        Dtype::F16 => Numbers::F16(bits().map(f16::from_bits).collect()),
        _ => Numbers::F32(read(gpu, buffer)),
    }
}

fn parameters_of(engine: &GpuEngine, format: &Format, model: &Model) -> Numbers {
    numbers(&engine.gpu, &engine.parameters, format.precision.params.dtype(), model.layout.len())
}

/// Of numbers from 1 to 2. f32 has as good as none.
fn unit(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::Bf16 => bf16::EPSILON.to_f32(),
        Dtype::F16 => f16::EPSILON.to_f32(),
        _ => 0.0,
    }
}

/// Kernels widen what they read and round once: to the nearest number of the sum in f32.
#[test]
fn gradients_are_the_nearest_to_those_of_the_widened_parameters() {
    let data = random_data(1);
    for name in names() {
        let format = format(name);
        let model = model_of(&SIZES, &format);
        let Precision { params, grads: dtype, .. } = &format.precision;
        let parameters = Numbers::nearest(params.dtype(), &model.initial_parameters(2)).expect("floats").to_f32();
        let scale = format.scaler.map_or(1.0, |scaler| scaler.init_scale as f32);
        let mut expected = vec![0.0; parameters.len()];
        let mut network = Network::new(&model);
        network.gather(&data.train, backwards()[..BATCH].iter().map(|&row| row as usize));
        network.forward(&parameters);
        network.cross_entropy();
        network.backward(&parameters, &mut expected);
        let expected: Vec<f32> = expected.into_iter().map(|grad| grad * scale).collect();

        let mut on_cpu = cpu_engine_in(&format, &model, &data, BATCH, &parameters);
        on_cpu.begin_epoch(&backwards());
        on_cpu.gradients(0);
        // A power of two as a scale changes no digit.
        assert_eq!(on_cpu.grads, Numbers::nearest(*dtype, &expected).expect("floats"), "{name}");

        let mut on_gpu = gpu_engine_in(&format, &model, &data, BATCH, &parameters);
        on_gpu.begin_epoch(&backwards());
        let mut encoder = on_gpu.encoder();
        on_gpu.record_gradients(&mut encoder, 0);
        on_gpu.gpu.queue.submit([encoder.finish()]);
        let found = numbers(&on_gpu.gpu, &on_gpu.grads, *dtype, model.layout.len()).to_f32();
        let unit = unit(*dtype);
        let largest = expected.iter().fold(0.0, |largest: f32, grad| largest.max(grad.abs()));
        for tensor in model.layout.tensors() {
            for element in tensor.range() {
                let (found, expected) = (found[element], expected[element]);
                // Half a unit, and the scatter of sums in another order.
                let allowed = 0.5 * unit * expected.abs() + 2e-6 * largest;
                let what = tensor.name();
                assert!((found - expected).abs() <= allowed, "{name}, {what}, {element}: {found} for {expected}");
            }
        }
        let mut padding = found;
        model.layout.tensors().iter().for_each(|tensor| padding[tensor.range()].fill(0.0));
        assert!(padding.iter().all(|&grad| grad == 0.0), "{name}: the padding was written");
    }
}

#[test]
fn every_format_learns_as_f32_on_both_devices() {
    let data = digits::draw_counts(1, 2_000, 300);
    let mut of_f32 = None;
    for name in names() {
        let format = format(name);
        let model = model_of(&[data.train.pixels, 32, CLASSES], &format);
        let parameters = model.initial_parameters(1);
        let mut on_cpu = cpu_engine_in(&format, &model, &data, 32, &parameters);
        let mut on_gpu = gpu_engine_in(&format, &model, &data, 32, &parameters);
        for engine in [&mut on_cpu as &mut dyn Engine, &mut on_gpu] {
            let history = learn(engine, &data);
            assert_learned(&history);
            assert_eq!(history.skipped, 0, "{name}");
            let accuracy = history.test.last().expect("evaluated").1.accuracy();
            let of_f32 = *of_f32.get_or_insert(accuracy);
            // Of 300 examples, 6 differ at most.
            assert!((accuracy - of_f32).abs() <= 2.0, "{name}: {accuracy} % for {of_f32} %");
        }
    }
}

/// Sums in another order change last digits, and rounding to 16 bits can make a unit of them.
#[test]
fn both_devices_end_with_nearly_the_same_parameters() {
    let data = random_data(9);
    for name in names() {
        let format = format(name);
        let model = model_of(&SIZES, &format);
        let parameters = model.initial_parameters(1);
        let plan = plan(&data, 20, 3, 1);
        let mut on_cpu = cpu_engine_in(&format, &model, &data, 20, &parameters);
        train(&mut on_cpu, &plan, &Saving::default()).expect("trained");
        let mut on_gpu = gpu_engine_in(&format, &model, &data, 20, &parameters);
        train(&mut on_gpu, &plan, &Saving::default()).expect("trained");
        let found = parameters_of(&on_gpu, &format, &model).to_f32();
        let pairs: Vec<_> = on_cpu.parameters.to_f32().into_iter().zip(found).collect();
        let unit = unit(format.precision.params.dtype());
        for (cpu, gpu) in pairs {
            assert!((cpu - gpu).abs() < 1e-4 + unit * cpu.abs(), "{name}: {cpu} and {gpu}");
        }
    }
}

/// f16 gradients overflow until the scale is small enough.
#[test]
fn a_huge_loss_scale_backs_off_and_training_recovers() {
    let data = digits::draw_counts(1, 2_000, 300);
    let model = Model::new(&[data.train.pixels, 32, CLASSES]).expect("valid");
    let parameters = model.initial_parameters(1);
    let init_scale = 1e9;
    let format = Format::new("f16", 1, Some(init_scale)).expect("known");
    let builder = format.builder(adamw().history(HistoryOptions::steps(1_000)));
    let layout = &model.layout;
    let cpu = builder.clone().build_cpu(layout).expect("valid");
    let mut on_cpu = CpuEngine::new(&model, &data, cpu, &format.precision, 32, &parameters).expect("floats");
    let gpu = open_gpu();
    let optimizer = builder.build(&gpu.device, &gpu.queue, layout).expect("valid");
    let mut on_gpu = GpuEngine::new(gpu, &model, &data, optimizer, &format.precision, 32, &parameters).expect("small");
    let mut runs = Vec::new();
    for engine in [&mut on_cpu as &mut dyn Engine, &mut on_gpu] {
        let history = learn(engine, &data);
        let test = history.test.last().expect("evaluated").1;
        assert!(test.accuracy() > 65.0, "{} % of the test set", test.accuracy());
        runs.push(history.skipped);
    }
    let points =
        [on_cpu.optimizer.history().expect("kept"), on_gpu.history().expect("kept")].map(|it| scales(&it.steps));
    assert_eq!(points[0], points[1]);
    let skipped = points[0].iter().filter(|point| point.is_skipped).count();
    assert!(skipped > 5 && runs == [skipped as u64; 2], "{skipped} {runs:?}");
    assert!(points[0][0].is_skipped && !points[0].last().expect("steps").is_skipped);
    assert_eq!(points[0].last().expect("steps").scale, init_scale / 2f64.powi(skipped as i32));
}

#[test]
fn a_resumed_run_in_any_format_ends_where_an_uninterrupted_one_does() {
    let data = random_data(14);
    let folder = tempfile::tempdir().expect("a folder");
    let saving = Saving { path: Some(folder.path().join("run")), ..Saving::default() };
    let path = saving.path.as_ref().expect("given");
    let whole = plan(&data, 20, 2, 1);
    let parts = [crate::Plan { max_steps: Some(4), ..whole }, crate::Plan { done: 4, ..whole }];
    for &name in &names()[1..] {
        let format = format(name);
        let model = model_of(&SIZES, &format);
        let parameters = model.initial_parameters(1);
        let run = |engine: &mut dyn Engine, plan: &crate::Plan| {
            if plan.done > 0 {
                assert_eq!(crate::resume(engine, path).expect("saved"), plan.done);
            }
            train(engine, plan, &saving).expect("trained");
        };
        let on_cpu = |plans: &[crate::Plan]| {
            plans.iter().fold(None, |_, plan| {
                let mut engine = cpu_engine_in(&format, &model, &data, 20, &parameters);
                run(&mut engine, plan);
                Some(engine.parameters)
            })
        };
        let on_gpu = |plans: &[crate::Plan]| {
            plans.iter().fold(None, |_, plan| {
                let mut engine = gpu_engine_in(&format, &model, &data, 20, &parameters);
                run(&mut engine, plan);
                Some(parameters_of(&engine, &format, &model))
            })
        };
        assert_eq!(on_cpu(&parts), on_cpu(&[whole]), "{name}");
        assert_eq!(on_gpu(&parts), on_gpu(&[whole]), "{name}");
    }
    let format = format("f32");
    let model = model_of(&SIZES, &format);
    let mut engine = cpu_engine_in(&format, &model, &data, 20, &model.initial_parameters(1));
    let refused = crate::resume(&mut engine, path).expect_err("another format").to_string();
    assert!(refused.contains("parameters of format Bf16; the program has F32"), "{refused}");
}

#[test]
fn odd_layers_are_refused_for_gradients_of_16_bits() {
    let (data, precision) = (random_data(1), Precision::bf16_split());
    for sizes in [[38, 7, CLASSES], [37, 8, CLASSES]] {
        let (model, gpu) = (Model::new(&sizes).expect("valid"), open_gpu());
        let optimizer =
            adamw().precision(precision.clone()).build(&gpu.device, &gpu.queue, &model.layout).expect("valid");
        let refused = GpuEngine::new(gpu, &model, &data, optimizer, &precision, 8, &model.initial_parameters(1));
        let message = refused.err().expect("odd").to_string();
        assert!(message.contains("a layer has") && message.contains("in pairs"), "{message}");
    }
}
