//! Moments in 8 bits: both engines, every format, beside small tensors in f32.

use std::collections::BTreeMap;

use crate::common::numbers::random;
use crate::common::words::{Words, download_words};
use crate::common::{block_on, device, device_with, encoder, rule};
use crate::precision::{Both, grads_of, groups};
use wgpu_optim::checkpoint::{Checkpoint, LoadOptions};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::wgpu::BufferUsages;
use wgpu_optim::{
    Adagrad, AdamW, Clip, Dtype, Ema, Error, GroupOptions, Layout, Lookahead, Optimizer, OptimizerBuilder, Precision,
    RmsProp, Rounding, Rows, Sam, Sgd,
};

const SEED: u32 = 7;

/// Every 8-bit format of moments, with a name. Tensors below 1,000 elements stay in f32.
fn formats() -> Vec<(&'static str, Precision)> {
    let stochastic = Rounding::Stochastic { seed: SEED };
    let formats = [
        ("dynamic", Precision::default().with_moments(Dtype::Dynamic8)),
        ("companded", Precision::default().with_moments(Dtype::Companded8)),
        ("split, dynamic", Precision::bf16_8bit()),
        (
            "split, companded, stochastic",
            Precision::bf16_split().with_moments(Dtype::Companded8).with_rounding(stochastic),
        ),
        ("bf16, dynamic, stochastic", Precision::bf16_stochastic_8bit(SEED)),
        ("f16 with a master, companded", Precision::f16_master().with_moments(Dtype::Companded8)),
    ];
    formats.map(|(name, precision)| (name, precision.with_min_8bit_len(1_000))).to_vec()
}

/// Large and small tensors of odd lengths, some frozen; the last block is not full.
fn layout() -> Layout {
    let layout = Layout::builder().aligned(256).tensor("a", &[37, 31]).tensor("frozen", &[1_100]).group("frozen");
    let layout =
        layout.tensor("small", &[7]).tensor("b", &[3, 1_025]).tensor("c", &[1]).tensor("d", &[999]).group("slow");
    layout.tensor("e", &[9_001]).tensor("f", &[1_000]).group("slow").build().unwrap()
}

impl Both<'_> {
    /// The checkpoint of each engine.
    pub fn files(&self) -> [Vec<u8>; 2] {
        let (mut on_device, mut on_cpu) = (Vec::new(), Vec::new());
        let saved = self.optimizer.save_to(&mut on_device, Some((&self.buffer).into()));
        block_on(self.gpu, saved);
        self.on_cpu.save_to(&mut on_cpu, Some(self.params.as_slice())).unwrap();
        [on_device, on_cpu]
    }

    /// Compares parameters and every part of the states.
    pub fn assert_same_files(&self, what: &str) {
        let [on_device, on_cpu] = self.files();
        if on_device == on_cpu {
            return;
        }
        let [on_device, on_cpu] =
            [&on_device, &on_cpu].map(|file| safetensors::SafeTensors::deserialize(file).unwrap());
        for (name, tensor) in on_cpu.iter() {
            let (got, expected) = (on_device.tensor(name).unwrap(), tensor.data());
            let first = got.data().iter().zip(expected).position(|(got, expected)| got != expected);
            assert_eq!(first, None, "{what}: first byte of {name} that differs");
        }
        panic!("{what}: the headers differ");
    }
}

fn rules() -> Vec<(&'static str, OptimizerBuilder)> {
    let momentum = Optimizer::builder(Sgd::default().with_momentum(0.9).with_lr(0.1));
    vec![
        ("momentum", momentum.clone()),
        ("momentum, clipped", momentum.clone().clip(Clip::global_norm(1.0))),
        ("lion", rule("lion")),
        ("adamw", rule("adamw")),
        ("lookahead and average", momentum.lookahead(Lookahead::new(2, 0.5)).average(Ema::new(0.9))),
    ]
}

#[test]
fn both_engines_have_the_same_bits_in_every_format() {
    for (name, builder) in rules() {
        for (format, precision) in formats() {
            let (layout, what) = (layout(), format!("{name}, {format}"));
            let mut both =
                Both::new(device::gpu(), &groups(builder.clone()), &precision, &layout, &random(1, layout.len()));
            let before = both.params.clone();
            both.assert_same_files(&format!("{what}, new"));
            for step in 0..4 {
                both.step(&grads_of(&precision, 10 + step, layout.len()));
                both.assert_same_files(&format!("{what}, step {step}"));
            }
            let moved = before.to_f32().iter().zip(both.params.to_f32()).filter(|(a, b)| **a != *b).count();
            assert!(moved > layout.len() / 4, "{what}: {moved} parameters moved");
        }
    }
}

/// Rules with sums over tensors, scalar state, two sets of parameters, and divisions that the device may round otherwise.
/// A code that differs moves a parameter by a hundredth of its update.
#[test]
fn every_rule_with_moments_runs_on_both_engines() {
    let layout = layout();
    let rules = [
        "adabelief",
        "adadelta",
        "adagrad",
        "adamax",
        "adan",
        "ademamix",
        "lamb",
        "lars",
        "nadam",
        "novograd",
        "prodigy",
        "radam",
        "rmsprop",
        "schedule_free_adamw",
        "signsgd",
        "sophia",
        "stable_adamw",
    ];
    for name in rules {
        for (format, precision) in [&formats()[0], &formats()[3]] {
            let params = random(1, layout.len());
            let built = rule(name).precision(precision.clone()).build_cpu(&layout).unwrap();
            // Each stream and up to four tables are storage buffers, of which SwiftShader binds ten.
            let buffers = 2 + built.state_names().filter(|state| !state.ends_with("_f32")).count() + 4;
            if buffers > device::gpu().device.limits().max_storage_buffers_per_shader_stage as usize {
                continue;
            }
            let mut both = Both::new(device::gpu(), &groups(rule(name)), precision, &layout, &params);
            let before = both.params.to_f32();
            for step in 0..3 {
                both.step(&grads_of(precision, 10 + step, layout.len()));
            }
            let words = download_words(both.gpu, both.buffer.slice(..));
            let on_device = Words { bits: words, ..both.params.clone() }.to_f32();
            for (element, (got, expected)) in on_device.iter().zip(both.params.to_f32()).enumerate() {
                let bound = expected.abs() / 128.0 + 1e-4 + 0.02 * (expected - before[element]).abs();
                assert!((got - expected).abs() <= bound, "{name}, {format}: [{element}] {got} for {expected}");
            }
        }
    }
}

#[test]
fn chunks_change_no_bit() {
    // Two streams of scales exceed the eight storage buffers that WebGPU grants without a request.
    let small = device_with(|limits| {
        limits.max_storage_buffer_binding_size = 1 << 16;
        limits.max_storage_buffers_per_shader_stage = 10;
    });
    let layout =
        Layout::builder().aligned(256).tensor("a", &[30_001]).tensor("b", &[300]).tensor("c", &[20_003]).build();
    let layout = layout.unwrap();
    for (format, precision) in formats() {
        let mut both = Both::new(&small, &rule("adamw"), &precision, &layout, &random(1, layout.len()));
        (0..2).for_each(|step| both.step(&grads_of(&precision, step, layout.len())));
        both.assert_same_files(format);
    }
}

#[test]
fn a_skipped_step_leaves_every_code() {
    let layout = layout();
    for (format, precision) in formats() {
        let builder = groups(rule("adamw")).clip(Clip::global_norm(1.0));
        let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &random(1, layout.len()));
        both.step(&grads_of(&precision, 1, layout.len()));
        let (before, on_cpu) = (both.on_device(), both.params.clone());
        let mut grads = random(2, layout.len());
        grads[1_000] = f32::NAN;
        both.step(&Words::nearest(precision.grads, &grads));
        assert_eq!((both.on_device(), &both.params), (before, &on_cpu), "{format}");
        both.assert_same_files(format);
    }
}

#[test]
fn averages_perturbations_and_the_way_back() {
    let layout = layout();
    let plain = Optimizer::builder(Sgd::default().with_momentum(0.9).with_lr(0.1));
    let cases = [
        (groups(plain.clone().average(Ema::new(0.5))), false),
        (groups(rule("schedule_free_adamw")), false),
        (groups(plain.sam(Sam::adaptive(0.5, 0.01))), true),
    ];
    for (builder, is_sam) in &cases {
        for (format, precision) in formats() {
            let mut both = Both::new(device::gpu(), builder, &precision, &layout, &random(1, layout.len()));
            let grads = |seed| grads_of(&precision, seed, layout.len());
            both.step(&grads(0));
            both.step(&grads(1));
            let before = both.on_device();
            both.replace_params(is_sam.then(|| grads(2)).as_ref());
            let replaced = both.on_device();
            assert!(before[0] != replaced[0] && before[1..] == replaced[1..], "{format}: only parameters change");
            both.train();
            assert_eq!(both.on_device(), before, "{format}");
            both.step(&grads(3));
            // The device may round the divisions of schedule-free AdamW otherwise.
            if *is_sam || builder.state_sizes(&layout).unwrap()[0].name != "z" {
                both.assert_same_files(format);
            }
        }
    }
}

#[test]
fn snapshots_and_checkpoints_continue_bit_for_bit() {
    let layout = layout();
    let builder = groups(rule("lion")).average(Ema::new(0.5));
    for (format, precision) in formats() {
        let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &random(1, layout.len()));
        let grads = |seed| grads_of(&precision, seed, layout.len());
        both.step(&grads(1));
        let mut recorded = encoder(both.gpu);
        let snapshot = both.optimizer.snapshot(&mut recorded, &both.buffer).unwrap();
        both.gpu.queue.submit([recorded.finish()]);
        let on_cpu = both.on_cpu.snapshot(both.params.as_slice()).unwrap();
        let [of_device, of_cpu] = both.files();
        both.step(&grads(2));
        let [expected, _] = both.files();

        let mut of_snapshot = Vec::new();
        block_on(both.gpu, snapshot.save_to(&mut of_snapshot));
        assert_eq!(of_snapshot, of_device, "{format}");
        both.on_cpu.restore(both.params.as_mut(), &on_cpu).unwrap();
        both.record(|optimizer, encoder, params| optimizer.restore(encoder, params, &snapshot).unwrap());
        both.step(&grads(2));
        let after = both.files();
        assert!(after == [expected.clone(), expected.clone()], "{format}, snapshot");

        let mut other = Both::new(device::gpu(), &builder, &precision, &layout, &vec![0.0; layout.len()]);
        let options = LoadOptions::default();
        let open = |bytes: Vec<u8>| Checkpoint::new(std::io::Cursor::new(bytes)).unwrap();
        let params = Some((&other.buffer).into());
        let _ = other.optimizer.load_from(&mut open(of_cpu), params, &options).unwrap();
        let _ = other.on_cpu.load_from(&mut open(of_device), Some(other.params.as_mut()), &options).unwrap();
        other.step(&grads(2));
        other.assert_same_files(&format!("{format}, loaded"));
        let [loaded, expected] = [&other.files()[0], &expected].map(|file| {
            let file = safetensors::SafeTensors::deserialize(file).unwrap();
            let states = file.iter().filter(|(name, _)| name.starts_with("states/"));
            states.map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect::<BTreeMap<_, _>>()
        });
        assert!(loaded == expected, "{format}, loaded");
    }
}

#[test]
fn a_buffer_of_each_tensor() {
    let (gpu, layout) = (device::gpu(), layout());
    for (format, precision) in formats() {
        let mut both = Both::new(gpu, &groups(rule("lion")), &precision, &layout, &random(1, layout.len()));
        let params = both.parts(&both.params);
        for step in 0..2 {
            both.step_parts(&params, &grads_of(&precision, step, layout.len()));
        }
        both.assert_same_parts(&params, format);
    }
}

/// Sums of metrics read codes: the update's norm is that of the parameters' change.
#[test]
fn metrics_read_codes() {
    let layout = layout();
    let builder = groups(rule("adamw")).history(HistoryOptions::steps(4).with_norms_every(1).per_group());
    let precision = Precision::default().with_moments(Dtype::Companded8).with_min_8bit_len(1_000);
    let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &random(1, layout.len()));
    both.step(&grads_of(&precision, 1, layout.len()));
    let before = both.params.to_f32();
    both.step(&grads_of(&precision, 2, layout.len()));
    let moved =
        before.iter().zip(both.params.to_f32()).map(|(old, new)| f64::from(new - old).powi(2)).sum::<f64>().sqrt();
    let mut recorded = encoder(both.gpu);
    let history = both.optimizer.history(&mut recorded).unwrap();
    both.gpu.queue.submit([recorded.finish()]);
    let on_device = block_on(both.gpu, history);
    for (engine, history) in [("CPU", both.on_cpu.history().unwrap()), ("device", on_device)] {
        let norm = f64::from(history.steps[1].update_norm.unwrap());
        assert!((norm - moved).abs() <= 1e-3 * moved, "{engine}: {norm} for {moved}");
    }
}

#[test]
fn what_8_bits_cannot_hold_is_named() {
    let eight = |dtype| Precision::default().with_moments(dtype).with_min_8bit_len(0);
    let refused = |builder: OptimizerBuilder, layout: &Layout, expected: &str| {
        let text = builder.build_cpu(layout).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    };
    let adamw = || Optimizer::builder(AdamW::default());
    let packed = Layout::builder().packed().tensor("a", &[300]).tensor("b", &[300]).build().unwrap();
    refused(adamw().precision(eight(Dtype::Dynamic8)), &packed, "\"b\", which begins at element 300");
    let padded = Layout::builder().tensor("a", &[300]).tensor("b", &[300]).build().unwrap();
    refused(adamw().precision(eight(Dtype::Dynamic8)), &padded, "aligned(256)");
    adamw().precision(eight(Dtype::Companded8)).build_cpu(&padded).unwrap();
    adamw().precision(eight(Dtype::Dynamic8).with_min_8bit_len(301)).build_cpu(&packed).unwrap();
    let frozen = Layout::builder().tensor("a", &[600]).range(100..256, "frozen").build().unwrap();
    let builder = adamw().group("frozen", GroupOptions::default().frozen()).precision(eight(Dtype::Dynamic8));
    refused(builder, &frozen, "frozen range that ends within a tensor, at element 100");
    let flat = Layout::flat(512).unwrap();
    refused(adamw().precision(eight(Dtype::Dynamic8)).rows(Rows::default()), &flat, "rows");
    let sum = Adagrad::default().with_initial_accumulator_value(0.1);
    refused(Optimizer::builder(sum).precision(eight(Dtype::Dynamic8)), &flat, "begins at 0.1");
    let named = |dtype| Precision::default().with_state("square_avg", dtype);
    let centered = || Optimizer::builder(RmsProp::default().with_centered(true));
    refused(centered().precision(named(Dtype::Dynamic8)), &flat, "does not declare the state as a moment");
    centered().precision(eight(Dtype::Dynamic8)).build_cpu(&flat).unwrap();
    refused(adamw().precision(eight(Dtype::F32Per256)), &flat, "F32Per256");
    refused(adamw().precision(eight(Dtype::F16)), &flat, "F16");
    let gpu = device::gpu();
    let buffer = crate::common::storage(gpu, 8_192, BufferUsages::STORAGE);
    let builder = adamw().precision(eight(Dtype::Dynamic8));
    assert_eq!(builder.state_sizes(&flat).unwrap(), []);
    for name in ["exp_avg", "exp_avg_scale"] {
        let given = device::build(gpu, builder.clone().state_buffers(name, &buffer), &flat);
        assert!(matches!(given, Err(Error::Unsupported { .. })), "{name}");
    }
    let mut optimizer = device::build(gpu, builder, &flat).unwrap();
    let slices = [buffer.slice(..400), buffer.slice(512..2_160)];
    let refused = optimizer.step(&mut encoder(gpu), &slices, buffer.slice(4_096..6_144)).unwrap_err();
    assert!(refused.to_string().contains("multiples of 256"), "{refused}");
}

/// The gradients of most elements are 0.003 of the largest. Their second moment, 1e-5 of the largest, would round down to 0
/// beside a first moment that does not: the update would be divided by eps alone.
#[test]
fn small_second_moments_keep_a_code() {
    let layout = Layout::flat(512).unwrap();
    let grads: Vec<f32> = (0..512).map(|element| if element % 32 == 5 { 1.0 } else { 0.003 }).collect();
    let builder = Optimizer::builder(AdamW::default().with_lr(0.01).with_weight_decay(0.0));
    for dtype in [Dtype::Dynamic8, Dtype::Companded8] {
        let precision = Precision::default().with_moments(dtype).with_min_8bit_len(0);
        let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &[0.0; 512]);
        for _ in 0..100 {
            both.step(&Words::nearest(Dtype::F32, &grads));
        }
        // In f32, each step moves every parameter by the learning rate.
        let far = both.params.to_f32().into_iter().find(|param| !(-1.5..-0.5).contains(param));
        assert_eq!(far, None, "{dtype:?}");
        both.assert_same_files(&format!("{dtype:?}"));
    }
}

/// The maximum of bytes per parameter, gradients included, for each format of `AdamW`.
#[test]
fn buffers_take_few_bytes_per_parameter() {
    const LEN: usize = 1_000_000;
    let companded = |precision: Precision| precision.with_moments(Dtype::Companded8);
    let cases = [
        ("f32", Precision::default(), 16.0),
        ("f32, dynamic", Precision::default().with_moments(Dtype::Dynamic8), 10.1),
        ("split, dynamic", Precision::bf16_8bit(), 8.1),
        ("split, companded", companded(Precision::bf16_split()), 8.3),
        ("bf16, dynamic, stochastic", Precision::bf16_stochastic_8bit(SEED), 6.1),
        ("bf16, companded, stochastic", companded(Precision::bf16_stochastic(SEED)), 6.3),
    ];
    for (name, precision, most) in cases {
        let layout = Layout::flat(LEN).unwrap();
        let both = Both::new(device::gpu(), &rule("adamw"), &precision, &layout, &vec![0.0; LEN]);
        let grads = grads_of(&precision, 1, LEN).upload(both.gpu);
        let states = both.optimizer.state_names().into_iter().flat_map(|state| both.optimizer.state(state).unwrap());
        let bytes = both.buffer.size() + grads.size() + states.map(|slice| slice.size()).sum::<u64>();
        let bytes = bytes as f64 / LEN as f64;
        assert!(bytes <= most && bytes > most - 0.15, "{name}: {bytes} bytes per parameter for at most {most}");
    }
}
