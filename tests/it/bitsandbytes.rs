//! Optimizers with moments in 8 bits against the steps of bitsandbytes.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use safetensors::tensor::TensorView;
use serde_json::Value;
use wgpu_optim::checkpoint::{Checkpoint, LoadOptions};
use wgpu_optim::{AdEMAMix, AdamW, CpuOptimizer, Dtype, Layout, Lion, Optimizer, OptimizerBuilder, Precision};

use crate::common::{Trainer, device, repository, set_state, words::Words};
use crate::precision::Both;
use crate::quantized::{Coding, SIGNED, UNSIGNED};
use crate::quantized_golden::{Drift, File, apart, betas, moments, option};

/// A table of 65,536 quotients from -1 to 1 moves a quotient by half of its spacing at most.
const TABLE: f64 = 1.0 / 65_535.0;
/// Moments, inverse scales and quotients in f32: eight roundings of half an ULP.
const ROUNDINGS: f64 = 8.0 / (1u32 << 24) as f64;
/// The absolute value of the least level. The scale of a negative extreme is longer by its inverse.
const LEAST_LEVEL: f64 = 0.992_968_74;
/// States of each rule in the order of the golden vectors.
const STATES: [&str; 3] = ["exp_avg", "exp_avg_sq", "exp_avg_slow"];

fn builder(rule: &str, options: &Value) -> OptimizerBuilder {
    let (lr, betas, decay) = (option(options, "lr"), betas(options), option(options, "weight_decay"));
    let two = (betas[0], betas[1]);
    match rule {
        "adamw" => Optimizer::builder(AdamW::default().with_lr(lr).with_betas(two).with_weight_decay(decay)),
        "lion" => Optimizer::builder(Lion::default().with_lr(lr).with_betas(two).with_weight_decay(decay)),
        _ => Optimizer::builder(
            AdEMAMix::default()
                .with_lr(lr)
                .with_betas((betas[0], betas[1], betas[2]))
                .with_alpha(option(options, "alpha"))
                .with_weight_decay(decay),
        ),
    }
}

fn precision(dtype: Dtype) -> Precision {
    Precision::default().with_moments(dtype).with_min_8bit_len(1)
}

/// The codes of shares of a scale within `margin` of one.
fn codes(coding: &Coding, share: f64, margin: f64) -> RangeInclusive<u32> {
    let least = if coding.is_signed { -1.0 } else { 0.0 };
    let [low, high] = [-margin, margin].map(|by| coding.encode((share + by).clamp(least, 1.0) as f32, 1.0));
    low..=high
}

/// How many codes are those of bitsandbytes, and why others are not.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    equal: u32,
    /// Where the table of bitsandbytes rounds the quotient past the middle of two levels, or a second moment to 0.
    table: u32,
    /// In a block whose extreme is negative: a longer scale.
    stretched: u32,
}

/// Steps from the codes and scales of bitsandbytes.
fn compare(rule: &str, states: &[&str]) -> Counts {
    let file = File::read("bitsandbytes_8bit_runs.safetensors");
    let options = &file.metadata["runs"][rule];
    let (mut start, grads) = (file.floats("start"), file.floats("grads"));
    let len = start.len();
    let layout = Layout::builder().aligned(256).tensor("a", &[len]).build().unwrap();
    let padded = layout.len();
    start.resize(padded, 0.0);
    let mut both = Both::new(device::gpu(), &builder(rule, options), &precision(Dtype::Dynamic8), &layout, &start);
    let golden: Vec<_> = (1..=states.len())
        .map(|k| (file.bytes(&format!("{rule}/state{k}")), file.floats(&format!("{rule}/absmax{k}"))))
        .collect();
    let codings = [SIGNED, UNSIGNED, SIGNED];
    let mut counts = Counts::default();
    for step in 0..20 {
        let mut grad = grads[len * (step % 5)..][..len].to_vec();
        let before: Vec<Vec<f32>> = (0..len)
            .map(|i| (0..states.len()).map(|k| decoded(&both.on_cpu, states[k], &codings[k], i)).collect())
            .collect();
        let after: Vec<_> = (0..len).map(|i| moments(rule, &betas(options), grad[i], &before[i])).collect();
        grad.resize(padded, 0.0);
        both.step(&Words::nearest(Dtype::F32, &grad));
        both.assert_same_files(&format!("{rule}, step {step}"));
        for (k, name) in states.iter().enumerate() {
            let (expected, absmax) = (&golden[k].0[len * step..][..len], &golden[k].1[2 * step..][..2]);
            let scales: Vec<f32> = scales(&both.on_cpu, name);
            let ours = both.on_cpu.state(name).unwrap().bytes();
            for i in 0..len {
                let what = format!("{rule}, step {step}, {name}[{i}]");
                let (scale, theirs) = (f64::from(scales[i / 256]), f64::from(absmax[i / 256]));
                let block = i / 256 * 256..(i / 256 * 256 + 256).min(len);
                let extreme = block.map(|i| after[i][k]).fold(0.0, |a: f32, b| if b.abs() > a.abs() { b } else { a });
                let stretch = if extreme < 0.0 { 1.0 / LEAST_LEVEL } else { 1.0 };
                assert!((scale / (theirs * stretch) - 1.0).abs() < ROUNDINGS, "{what}: {scale:e} for {theirs:e}");
                let (code, expected) = (u32::from(ours[i]), u32::from(expected[i]));
                let value = f64::from(after[i][k]);
                let near = codes(&codings[k], value / scale, ROUNDINGS * (value / scale).abs());
                assert!(near.contains(&code), "{what}: {code}, {near:?}");
                let near = codes(&codings[k], value / theirs, TABLE + ROUNDINGS);
                assert!(near.contains(&expected) || near == (1..=1) && expected == 0, "{what}: {expected}, {near:?}");
                let reason = if code == expected {
                    &mut counts.equal
                } else if stretch > 1.0 {
                    &mut counts.stretched
                } else {
                    &mut counts.table
                };
                *reason += 1;
            }
            write(&mut both, name, expected, absmax);
        }
    }
    let rounding = |param: f32| 2.0 * 20.0 * 2f64.powi(-24) * f64::from(param).abs() + 1e-7;
    for (i, (param, expected)) in
        both.params.to_f32().into_iter().zip(file.floats(&format!("{rule}/params"))).enumerate()
    {
        let apart = (f64::from(param) - f64::from(expected)).abs();
        assert!(apart <= rounding(param), "{rule} {i}: {param} for {expected}");
    }
    counts
}

fn scales(optimizer: &CpuOptimizer, name: &str) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(optimizer.state(&format!("{name}_scale")).unwrap().bytes())
}

fn decoded(optimizer: &CpuOptimizer, name: &str, coding: &Coding, at: usize) -> f32 {
    coding.decode(optimizer.state(name).unwrap().bytes()[at].into(), scales(optimizer, name)[at / 256])
}

/// Writes codes and scales into the states of both engines. Codes of the padding stay.
fn write(both: &mut Both<'_>, name: &str, codes: &[u8], absmax: &[f32]) {
    let of_scales = format!("{name}_scale");
    both.on_cpu.state_mut(name).unwrap().bytes_mut()[..codes.len()].copy_from_slice(codes);
    both.on_cpu.state_mut(&of_scales).unwrap().bytes_mut()[..4 * absmax.len()]
        .copy_from_slice(bytemuck::cast_slice(absmax));
    for name in [name, &of_scales] {
        let words: Vec<f32> = bytemuck::pod_collect_to_vec(both.on_cpu.state(name).unwrap().bytes());
        set_state(both.gpu, &both.optimizer, name, &words);
    }
}

#[test]
fn codes_are_those_of_bitsandbytes_but_for_its_table_and_negative_extremes() {
    for (rule, states, expected) in [
        ("adamw", &STATES[..2], [10_758, 809, 433]),
        ("lion", &STATES[..1], [5_578, 31, 391]),
        ("ademamix", &STATES, [16_291, 842, 867]),
    ] {
        let Counts { equal, table, stretched } = compare(rule, states);
        assert_eq!([equal, table, stretched], expected, "{rule}");
    }
}

/// The parameters after 1,000 steps.
fn trained(drift: &Drift, builder: &OptimizerBuilder, precision: Precision) -> Vec<f32> {
    let layout = Layout::builder().aligned(256).tensor("a", &[drift.start.len()]).build().unwrap();
    let mut optimizer = builder.clone().precision(precision).build_cpu(&layout).unwrap();
    let mut params = drift.start.clone();
    for step in 0..1_000 {
        let grads = drift.grads(step, &params);
        optimizer.step(&mut params, &grads).unwrap();
    }
    params
}

#[test]
fn moments_of_8_bits_drift_less_than_those_of_bitsandbytes() {
    let drift = Drift::read(&File::read("bitsandbytes_8bit.safetensors"));
    let file = File::read("bitsandbytes_8bit_drift.safetensors");
    for rule in ["adamw", "lion", "ademamix"] {
        let builder = builder(rule, &file.metadata["runs"][rule]);
        let exact = trained(&drift, &builder, Precision::default());
        let (_, theirs) = apart(&file.floats(rule), &exact);
        let (_, ours) = apart(&trained(&drift, &builder, precision(Dtype::Dynamic8)), &exact);
        assert!(ours <= theirs, "{rule}: {ours} for {theirs}");
    }
}

const FOLDER: &str = "bitsandbytes_checkpoints";
const RULES: [&str; 3] = ["adamw", "lion", "ademamix"];

fn path(rule: &str) -> PathBuf {
    repository().join("tests/golden").join(FOLDER).join(format!("{rule}.safetensors"))
}

/// The tensors of `bitsandbytes_checkpoints.py`: codes for the weight, f32 for the bias.
fn layout() -> Layout {
    Layout::builder().aligned(256).tensor("weight", &[65, 64]).tensor("bias", &[5]).build().unwrap()
}

/// Numbers of both tensors, in their places.
fn expected(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(path("expected")).unwrap();
    let (tensors, layout) = (safetensors::SafeTensors::deserialize(&bytes).unwrap(), layout());
    let mut values = vec![0.0; layout.len()];
    for tensor in layout.tensors() {
        let data = tensors.tensor(&format!("{name}/{}", tensor.name())).unwrap();
        values[tensor.range()].copy_from_slice(&bytemuck::pod_collect_to_vec::<_, f32>(data.data()));
    }
    values
}

fn from_file(rule: &str) -> OptimizerBuilder {
    OptimizerBuilder::from_checkpoint(&Checkpoint::open(path(rule)).unwrap()).unwrap()
}

/// The optimizer of a file, with its parameters.
fn resumed(rule: &str) -> (CpuOptimizer, Vec<f32>) {
    let mut params = vec![0.0; layout().len()];
    let mut optimizer = from_file(rule).build_cpu(&layout()).unwrap();
    let loaded = optimizer.load(path(rule), Some((&mut params).into()), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.differences, [], "{rule}");
    (optimizer, params)
}

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let apart = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
    assert!(apart <= 2e-6 * largest, "{what}: {apart:e} apart at a largest parameter of {largest}");
}

#[test]
fn training_that_began_in_bitsandbytes_goes_on_here() {
    let (layout, grads) = (layout(), expected("grad"));
    for rule in RULES {
        let (mut on_cpu, mut params) = resumed(rule);
        let mut on_device = Trainer::new(device::gpu(), from_file(rule), &layout, &params);
        let all = on_device.params.slice(..4 * layout.len() as u64);
        let _ = on_device.optimizer.load(path(rule), Some(all.into()), &LoadOptions::default()).unwrap();
        on_cpu.step(&mut params, &grads).unwrap();
        on_device.step(&grads);
        assert_close(&format!("{rule} on the CPU"), &params, &expected(rule));
        assert_close(&format!("{rule} on the device"), &on_device.params()[..layout.len()], &expected(rule));
    }
}

/// `TORCH_PYTHON=python cargo test -- --ignored bitsandbytes_continues` with a Python that has bitsandbytes.
#[test]
#[ignore = "needs Python with bitsandbytes: set TORCH_PYTHON to it"]
fn bitsandbytes_continues_what_began_here() {
    let python = std::env::var_os("TORCH_PYTHON").expect("TORCH_PYTHON names a Python with bitsandbytes");
    let (files, grads) = (tempfile::tempdir().unwrap(), expected("grad"));
    for rule in RULES {
        let (mut optimizer, mut params) = resumed(rule);
        // Codes of this crate, not those of the file.
        let other: Vec<f32> = grads.iter().rev().map(|grad| 0.5 * grad).collect();
        optimizer.step(&mut params, &other).unwrap();
        optimizer.save(files.path().join(format!("{rule}.safetensors")), Some((&params).into())).unwrap();
        optimizer.step(&mut params, &grads).unwrap();
        let view = |values, shape| TensorView::new(safetensors::Dtype::F32, shape, values).unwrap();
        let [weight, bias] = [0, 1].map(|number| &params[layout().tensors()[number].range()]);
        let tensors = [
            ("weight", view(bytemuck::cast_slice(weight), vec![65, 64])),
            ("bias", view(bytemuck::cast_slice(bias), vec![5])),
        ];
        let path = files.path().join(format!("{rule}.expected"));
        safetensors::serialize_to_file(tensors, None, &path).unwrap();
    }
    let mut check = std::process::Command::new(python);
    let script = repository().join("tests/golden/bitsandbytes_checkpoints.py");
    assert!(check.arg(script).arg("check").arg(files.path()).status().unwrap().success());
}
