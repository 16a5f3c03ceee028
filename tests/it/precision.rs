//! Parameters and states of 16 bits: both engines, every format.

use crate::common::numbers::random;
use crate::common::words::{Words, download_words};
use crate::common::{block_on, device, device_with, encoder, finish, rule, set_state};
use wgpu_optim::checkpoint::LoadOptions;
use wgpu_optim::half::bf16;
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::wgpu::{Buffer, BufferSlice, BufferUsages, CommandEncoder};
use wgpu_optim::{
    AdamW, Clip, CpuOptimizer, Dtype, Ema, Error, Gpu, GroupOptions, HostSlice, Layout, Lookahead, Optimizer,
    OptimizerBuilder, ParamFormat, Precision, Rounding, Rows, Sam, Sgd, TensorInfo,
};

const SEED: u32 = 7;

/// Training on both engines at once, in any format.
pub struct Both<'a> {
    pub gpu: &'a Gpu,
    pub layout: Layout,
    pub on_cpu: CpuOptimizer,
    pub params: Words,
    pub optimizer: Optimizer,
    pub buffer: Buffer,
}

impl<'a> Both<'a> {
    pub fn new(
        gpu: &'a Gpu,
        builder: &OptimizerBuilder,
        precision: &Precision,
        layout: &Layout,
        params: &[f32],
    ) -> Self {
        let builder = builder.clone().precision(precision.clone());
        let params = Words::nearest(precision.params.dtype(), params);
        Self {
            gpu,
            layout: layout.clone(),
            on_cpu: builder.clone().build_cpu(layout).unwrap(),
            optimizer: device::build(gpu, builder, layout).unwrap(),
            buffer: params.upload(gpu),
            params,
        }
    }

    pub fn step(&mut self, grads: &Words) {
        let on_cpu = self.on_cpu.step(self.params.as_mut(), grads.as_slice()).unwrap();
        let mut recorded = encoder(self.gpu);
        self.optimizer.step(&mut recorded, &self.buffer, &grads.upload(self.gpu)).unwrap();
        let on_device = finish(self.gpu, &self.optimizer, recorded);
        assert_eq!((on_device.step, on_device.skipped), (on_cpu.step, on_cpu.skipped));
    }

    pub fn record(&mut self, call: impl FnOnce(&mut Optimizer, &mut CommandEncoder, &Buffer)) {
        let mut recorded = encoder(self.gpu);
        call(&mut self.optimizer, &mut recorded, &self.buffer);
        self.gpu.queue.submit([recorded.finish()]);
    }

    /// Replaces the parameters on both engines: perturbs them by the gradients, or evaluates without.
    pub fn replace_params(&mut self, grads: Option<&Words>) {
        if let Some(grads) = grads {
            self.on_cpu.perturb(self.params.as_mut(), grads.as_slice()).unwrap();
            let uploaded = grads.upload(self.gpu);
            self.record(|optimizer, encoder, params| optimizer.perturb(encoder, params, &uploaded).unwrap());
        } else {
            self.on_cpu.eval(self.params.as_mut()).unwrap();
            self.record(|optimizer, encoder, params| optimizer.eval(encoder, params).unwrap());
        }
    }

    /// The way back on both engines.
    pub fn train(&mut self) {
        self.on_cpu.train(self.params.as_mut()).unwrap();
        self.record(|optimizer, encoder, params| optimizer.train(encoder, params).unwrap());
    }

    /// A buffer of each tensor, with its numbers alone.
    pub fn parts(&self, words: &Words) -> Vec<Buffer> {
        let values = words.to_f32();
        let part = |tensor: &TensorInfo| Words::nearest(words.dtype, &values[tensor.range()]).upload(self.gpu);
        self.layout.tensors().iter().map(part).collect()
    }

    /// A step on both engines. On the device the parameters lie in `params`, a buffer of each tensor.
    pub fn step_parts(&mut self, params: &[Buffer], grads: &Words) {
        let of_grads = self.parts(grads);
        let params = slices_of(params, &self.layout, self.params.dtype);
        let of_grads = slices_of(&of_grads, &self.layout, grads.dtype);
        let mut recorded = encoder(self.gpu);
        self.optimizer.step(&mut recorded, &params, &of_grads).unwrap();
        finish(self.gpu, &self.optimizer, recorded);
        self.on_cpu.step(self.params.as_mut(), grads.as_slice()).unwrap();
    }

    /// Compares the parameters of both engines, in a buffer of each tensor on the device.
    pub fn assert_same_parts(&self, params: &[Buffer], what: &str) {
        let expected = self.params.to_f32();
        for (buffer, tensor) in params.iter().zip(self.layout.tensors()) {
            let bits = download_words(self.gpu, buffer.slice(..));
            let got = Words { dtype: self.params.dtype, len: tensor.range().len(), bits };
            assert_eq!(got.to_f32(), expected[tensor.range()], "{what}, {}", tensor.name());
        }
    }

    /// Words of the parameters and of every state on the device.
    pub fn on_device(&self) -> Vec<(String, Vec<u32>)> {
        let mut streams = vec![("param".to_owned(), download_words(self.gpu, self.buffer.slice(..)))];
        for name in self.optimizer.state_names() {
            let slices = self.optimizer.state(name).unwrap();
            let words = slices.into_iter().flat_map(|slice| download_words(self.gpu, slice)).collect();
            streams.push((name.to_owned(), words));
        }
        streams
    }

    /// Compares the bits of the layout's elements.
    pub fn assert_same(&self, what: &str) {
        for (name, words) in self.on_device() {
            let on_cpu = if name == "param" { self.params.as_slice() } else { self.on_cpu.state(&name).unwrap() };
            let unit = on_cpu.dtype().bytes(1) as usize;
            let on_device = &bytemuck::cast_slice::<u32, u8>(&words);
            for tensor in self.layout.tensors() {
                for element in tensor.range() {
                    let range = unit * element..unit * (element + 1);
                    let (got, expected) = (&on_device[range.clone()], &on_cpu.bytes()[range]);
                    assert_eq!(got, expected, "{what}, {name}[{element}]");
                }
            }
        }
    }
}

pub fn grads_of(precision: &Precision, seed: u64, len: usize) -> Words {
    Words::nearest(precision.grads, &random(seed, len))
}

/// Every format of parameters, states and gradients, with a name.
fn formats(states: &[&str]) -> Vec<(&'static str, Precision)> {
    let halves = |precision: Precision| states.iter().fold(precision, |all, &state| all.with_state(state, Dtype::Bf16));
    let nearest = Precision::default().with_params(ParamFormat::Bf16);
    vec![
        ("f32, bf16 states", halves(Precision::default())),
        ("bf16, nearest", nearest.clone()),
        ("bf16 and bf16 states, nearest", halves(nearest.with_grads(Dtype::F16))),
        ("bf16, stochastic", Precision::bf16_stochastic(SEED)),
        ("bf16 and bf16 states, stochastic", halves(Precision::bf16_stochastic(SEED))),
        ("bf16 with a master", Precision::bf16_master()),
        ("f16 with a master", Precision::f16_master()),
        ("split, bf16 states", halves(Precision::bf16_split())),
        ("split, f32 gradients", Precision::bf16_split().with_grads(Dtype::F32)),
    ]
}

/// Tensors of odd lengths, one frozen, tails of a quad and of a workgroup.
fn layout(is_packed: bool) -> Layout {
    let layout = if is_packed { Layout::builder().packed() } else { Layout::builder() };
    let layout = layout.tensor("a", &[37, 31]).tensor("frozen", &[5]).group("frozen");
    layout.tensor("b", &[2, 1_025]).tensor("c", &[1]).tensor("d", &[3]).group("slow").build().unwrap()
}

pub fn groups(builder: OptimizerBuilder) -> OptimizerBuilder {
    let slow = GroupOptions::default().with_lr_scale(0.5).with_weight_decay(0.0);
    builder.group("frozen", GroupOptions::default().frozen()).group("slow", slow)
}

#[test]
fn both_engines_have_the_same_bits_in_every_format() {
    let momentum = Optimizer::builder(Sgd::default().with_momentum(0.9).with_lr(0.1));
    let rules = [
        ("momentum", momentum.clone(), &["momentum_buffer"][..]),
        ("momentum, clipped", momentum.clone().clip(Clip::global_norm(1.0)), &["momentum_buffer"]),
        ("lion", rule("lion"), &["exp_avg"]),
        ("adamw", rule("adamw"), &["exp_avg", "exp_avg_sq"]),
        ("lookahead and average", momentum.lookahead(Lookahead::new(2, 0.5)).average(Ema::new(0.9)), &["slow"]),
    ];
    for (name, builder, states) in rules {
        for (format, precision) in formats(states) {
            for is_packed in [false, true] {
                let (layout, what) = (layout(is_packed), format!("{name}, {format}, packed: {is_packed}"));
                let params = random(1, layout.len());
                let mut both = Both::new(device::gpu(), &groups(builder.clone()), &precision, &layout, &params);
                let before = both.params.clone();
                for step in 0..4 {
                    both.step(&grads_of(&precision, 10 + step, layout.len()));
                    both.assert_same(&format!("{what}, step {step}"));
                }
                let moved = before.to_f32().iter().zip(both.params.to_f32()).filter(|(a, b)| **a != *b).count();
                assert!(moved > layout.len() / 4, "{what}: {moved} parameters moved");
            }
        }
    }
}

/// Rules with sums over tensors, factors, scalar state, and two sets of parameters. Divisions and roots of the device may
/// round otherwise: parameters agree to one unit of bf16.
#[test]
fn rules_with_sums_and_factors_run_in_every_format() {
    for name in ["lamb", "adafactor", "prodigy", "schedule_free_adamw", "nadam", "sophia", "novograd"] {
        for (format, precision) in formats(&[]) {
            let layout = layout(false);
            let params = random(1, layout.len());
            let mut both = Both::new(device::gpu(), &groups(rule(name)), &precision, &layout, &params);
            for step in 0..3 {
                both.step(&grads_of(&precision, 10 + step, layout.len()));
            }
            let words = download_words(both.gpu, both.buffer.slice(..));
            let on_device = Words { bits: words, ..both.params.clone() }.to_f32();
            for (element, (got, expected)) in on_device.iter().zip(both.params.to_f32()).enumerate() {
                let unit = expected.abs() / 128.0 + 1e-4;
                assert!((got - expected).abs() <= unit, "{name}, {format}: [{element}] {got} for {expected}");
            }
        }
    }
}

/// The f32 that two streams hold.
fn joined(params: HostSlice<'_>, rest: HostSlice<'_>) -> Vec<f32> {
    match rest {
        HostSlice::F32(master) => master.to_vec(),
        HostSlice::I16(low) => {
            let high = params.to_f32();
            let join = |(high, &low): (&f32, &i16)| f32::from_bits(high.to_bits().wrapping_add_signed(low.into()));
            high.iter().zip(low).map(join).collect()
        }
        _ => panic!(),
    }
}

/// 10,000 steps on both engines. The training in f32 has the same gradients, and starts from the same bf16.
#[test]
fn split_parameters_and_masters_train_as_f32() {
    const STEPS: u64 = 10_000;
    const LEN: usize = 67;
    let layout = Layout::builder().tensor("a", &[LEN]).build().unwrap();
    let params = Words::nearest(Dtype::Bf16, &random(1, layout.len())).to_f32();
    for (precision, rest) in [(Precision::bf16_split(), "param_low"), (Precision::bf16_master(), "param_master")] {
        let builder = Optimizer::builder(AdamW::default().with_lr(1e-3)).clip(Clip::global_norm(1.0));
        let of_f32 = Precision::default().with_grads(Dtype::Bf16);
        let mut reference = builder.clone().precision(of_f32).build_cpu(&layout).unwrap();
        let mut expected = params.clone();
        let gpu = device::gpu();
        let mut both = Both::new(gpu, &builder, &precision, &layout, &params);
        let all: Vec<Words> = (0..16).map(|seed| grads_of(&precision, seed, layout.len())).collect();
        let buffers: Vec<Buffer> = all.iter().map(|grads| grads.upload(gpu)).collect();
        for first in (0..STEPS).step_by(100) {
            let mut recorded = encoder(gpu);
            for step in first..first + 100 {
                let grads = step as usize % all.len();
                reference.step(&mut expected, all[grads].as_slice()).unwrap();
                both.on_cpu.step(both.params.as_mut(), all[grads].as_slice()).unwrap();
                both.optimizer.step(&mut recorded, &both.buffer, &buffers[grads]).unwrap();
            }
            gpu.queue.submit([recorded.finish()]);
        }
        let (joined, nearest) =
            (joined(both.params.as_slice(), both.on_cpu.state(rest).unwrap()), both.params.to_f32());
        assert_eq!(joined[..LEN], expected[..LEN], "{rest}, CPU");
        assert_eq!(nearest[..LEN], Words::nearest(Dtype::Bf16, &expected).to_f32()[..LEN], "{rest}");
        both.assert_same(rest);
    }
}

/// Updates of a hundredth of a unit: to the nearest no parameter ever moves; at random they move by the right mean.
#[test]
fn updates_below_half_a_unit_move_parameters_only_at_random() {
    let layout = Layout::flat(1 << 14).unwrap();
    // A unit of bf16 at 1.5 is 2^-7.
    let (start, lr, steps) = (1.5, 2f64.powi(-7) / 100.0, 50);
    let builder = Optimizer::builder(Sgd::default().with_lr(lr));
    for (rounding, expected) in [(Rounding::Nearest, 0.0), (Rounding::Stochastic { seed: SEED }, lr * f64::from(steps))]
    {
        let precision = Precision::default().with_params(ParamFormat::Bf16).with_rounding(rounding);
        let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &vec![start; layout.len()]);
        let grads = Words::nearest(Dtype::F32, &vec![1.0; layout.len()]);
        (0..steps).for_each(|_| both.step(&grads));
        both.assert_same("small updates");
        let moved =
            both.params.to_f32().iter().map(|param| f64::from(start - param)).sum::<f64>() / layout.len() as f64;
        // Each step moves by 0 or one unit: variance p (1 - p), in units.
        let error = 2f64.powi(-7) * (f64::from(steps) * 0.01 * 0.99 / layout.len() as f64).sqrt();
        let bound = if expected == 0.0 { 0.0 } else { 5.0 * error };
        assert!((moved - expected).abs() <= bound, "{rounding:?}: {moved:e} for {expected:e}");
    }
}

/// The statistic counts updates that a step to the nearest does not store: of elements with a gradient.
#[test]
fn lost_updates_are_counted() {
    let layout = Layout::flat(1_000).unwrap();
    let builder =
        Optimizer::builder(Sgd::default().with_lr(1e-4)).history(HistoryOptions::steps(1).with_norms_every(1));
    let grads: Vec<f32> = (0..1_000).map(|i| if i % 4 == 0 { 0.0 } else { 1.0 }).collect();
    let of_bf16 = Precision::default().with_params(ParamFormat::Bf16);
    // A unit of bf16 at 1 is 2^-7, one of f32 2^-23; a gradient of 1e-5 moves by 1e-9.
    for (precision, scale, expected) in [
        (of_bf16.clone(), 1.0, 0.75),
        (of_bf16.clone().with_rounding(Rounding::Stochastic { seed: SEED }), 1.0, 0.75),
        (of_bf16, 1e3, 0.0),
        (Precision::bf16_split().with_grads(Dtype::F32), 1.0, 0.0),
        (Precision::default(), 1.0, 0.0),
        (Precision::default(), 1e-5, 0.75),
    ] {
        let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &[1.0; 1_000]);
        let grads: Vec<f32> = grads.iter().map(|grad| scale * grad).collect();
        both.step(&Words::nearest(Dtype::F32, &grads));
        let mut recorded = encoder(both.gpu);
        let history = both.optimizer.history(&mut recorded).unwrap();
        both.gpu.queue.submit([recorded.finish()]);
        let on_device = block_on(both.gpu, history);
        for (engine, history) in [("CPU", both.on_cpu.history().unwrap()), ("device", on_device)] {
            assert_eq!(history.steps[0].lost_updates, Some(expected), "{engine}, {precision:?}, {scale}");
        }
    }
}

/// Random bits depend on seed, step and element alone: not on chunks, and not on buffers.
#[test]
fn chunks_change_no_bit() {
    let small = device_with(|limits| limits.max_storage_buffer_binding_size = 1 << 16);
    let layout = Layout::builder().tensor("a", &[30_001]).tensor("b", &[20_003]).build().unwrap();
    let builder = rule("adamw");
    for (format, precision) in formats(&["exp_avg", "exp_avg_sq"]) {
        let params = random(1, layout.len());
        let mut both = Both::new(&small, &builder, &precision, &layout, &params);
        (0..2).for_each(|step| both.step(&grads_of(&precision, step, layout.len())));
        both.assert_same(format);
    }
}

#[test]
fn another_seed_gives_other_bits() {
    let layout = Layout::flat(1_000).unwrap();
    let run = |seed: u32| {
        let builder = Optimizer::builder(Sgd::default().with_lr(0.01)).precision(Precision::bf16_stochastic(seed));
        let mut params = Words::nearest(Dtype::Bf16, &random(1, 1_000));
        let grads = Words::nearest(Dtype::Bf16, &random(2, 1_000));
        builder.build_cpu(&layout).unwrap().step(params.as_mut(), grads.as_slice()).unwrap();
        params.bits
    };
    assert_eq!(run(1), run(1));
    let differ = run(1).iter().zip(run(2)).filter(|(a, b)| **a != *b).count();
    assert!(differ > 50, "{differ}");
}

#[test]
fn a_skipped_step_leaves_every_word() {
    let layout = layout(true);
    for (format, precision) in formats(&["exp_avg"]) {
        let builder = groups(rule("adamw")).clip(Clip::global_norm(1.0));
        let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &random(1, layout.len()));
        both.step(&grads_of(&precision, 1, layout.len()));
        let (before, on_cpu) = (both.on_device(), both.params.clone());
        let mut grads = random(2, layout.len());
        grads[1_000] = f32::NAN;
        both.step(&Words::nearest(precision.grads, &grads));
        assert_eq!((both.on_device(), &both.params), (before, &on_cpu), "{format}");
    }
}

/// The program replaces parameters, some by zeros: training goes on from these.
#[test]
fn parameters_that_the_program_sets_count() {
    let layout = Layout::flat(100).unwrap();
    for (format, precision) in formats(&[]).into_iter().skip(5) {
        let builder = Optimizer::builder(Sgd::default().with_lr(0.25));
        let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &random(1, 100));
        both.step(&grads_of(&precision, 1, 100));
        let set: Vec<f32> = (0..100).map(|i| if i % 3 == 0 { 0.0 } else { -0.0 }).collect();
        let set = Words::nearest(precision.params.dtype(), &set);
        both.gpu.queue.write_buffer(&both.buffer, 0, bytemuck::cast_slice(&set.bits));
        both.params = set;
        both.step(&Words::nearest(precision.grads, &[-1.0; 100]));
        both.assert_same(format);
        assert_eq!(both.params.to_f32(), vec![0.25; 100], "{format}");
    }
}

/// Masters that the program writes before the first step count: training starts from f32.
#[test]
fn training_starts_from_the_masters_of_the_program() {
    let layout = Layout::flat(100).unwrap();
    let params = random(1, 100);
    for precision in [Precision::bf16_master(), Precision::f16_master()] {
        let builder = Optimizer::builder(Sgd::default().with_lr(0.25));
        let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &params);
        both.on_cpu.state_mut("param_master").unwrap().into_f32().unwrap().copy_from_slice(&params);
        set_state(both.gpu, &both.optimizer, "param_master", &params);
        both.step(&Words::nearest(precision.grads, &[-1.0; 100]));
        both.assert_same("masters");
        let expected: Vec<f32> = params.iter().map(|param| param + 0.25).collect();
        assert_eq!(both.on_cpu.state("param_master").unwrap().to_f32(), expected);
    }
}

#[test]
fn averages_perturbations_and_the_way_back() {
    let layout = layout(false);
    let plain = Optimizer::builder(Sgd::default().with_momentum(0.9).with_lr(0.1));
    let cases = [
        (groups(plain.clone().average(Ema::new(0.5))), false),
        (groups(rule("schedule_free_sgd")), false),
        (groups(plain.clone().sam(Sam::new(0.05))), true),
        (groups(plain.sam(Sam::adaptive(0.5, 0.01))), true),
    ];
    for (builder, is_sam) in &cases {
        for (format, precision) in formats(&[]) {
            let mut both = Both::new(device::gpu(), builder, &precision, &layout, &random(1, layout.len()));
            let grads = |seed| grads_of(&precision, seed, layout.len());
            both.step(&grads(0));
            both.step(&grads(1));
            both.assert_same(&format!("{format}, first steps"));
            let before = both.on_device();
            both.replace_params(is_sam.then(|| grads(2)).as_ref());
            both.assert_same(&format!("{format}, replaced"));
            let replaced = both.on_device();
            assert!(before[0] != replaced[0] && before[1..] == replaced[1..], "{format}: only parameters change");
            both.train();
            assert_eq!(both.on_device(), before, "{format}");
            both.assert_same(&format!("{format}, back"));
            both.step(&grads(3));
            both.assert_same(&format!("{format}, last step"));
        }
    }
}

#[test]
fn snapshots_and_checkpoints_continue_bit_for_bit() {
    let layout = layout(false);
    let builder = groups(rule("adamw")).average(Ema::new(0.5));
    for (format, precision) in formats(&["exp_avg", "average"]) {
        let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &random(1, layout.len()));
        let grads = |seed| grads_of(&precision, seed, layout.len());
        both.step(&grads(1));
        let mut recorded = encoder(both.gpu);
        let snapshot = both.optimizer.snapshot(&mut recorded, &both.buffer).unwrap();
        both.gpu.queue.submit([recorded.finish()]);
        let on_cpu = both.on_cpu.snapshot(both.params.as_slice()).unwrap();
        let (mut file, mut of_cpu) = (Vec::new(), Vec::new());
        let params = wgpu_optim::BufferSlices::from(&both.buffer);
        block_on(both.gpu, both.optimizer.save_to(&mut file, Some(params)));
        both.on_cpu.save_to(&mut of_cpu, Some(both.params.as_slice())).unwrap();
        assert_eq!(file, of_cpu, "{format}");
        both.step(&grads(2));
        let expected = both.on_device();

        both.on_cpu.restore(both.params.as_mut(), &on_cpu).unwrap();
        both.record(|optimizer, encoder, params| optimizer.restore(encoder, params, &snapshot).unwrap());
        both.step(&grads(2));
        assert_eq!(both.on_device(), expected, "{format}, snapshot");
        both.assert_same(format);

        let zeros = vec![0.0; layout.len()];
        let mut other = Both::new(device::gpu(), &builder, &precision, &layout, &zeros);
        let options = LoadOptions::default();
        let checkpoint = |bytes| wgpu_optim::checkpoint::Checkpoint::new(std::io::Cursor::new(bytes)).unwrap();
        let params = Some((&other.buffer).into());
        let _ = other.optimizer.load_from(&mut checkpoint(of_cpu.clone()), params, &options).unwrap();
        let _ = other.on_cpu.load_from(&mut checkpoint(file.clone()), Some(other.params.as_mut()), &options).unwrap();
        other.step(&grads(2));
        other.assert_same(&format!("{format}, loaded"));
        let of_layout = |streams: &[(String, Vec<u32>)]| streams[0].1[..37 * 31 / 2].to_vec();
        assert_eq!(of_layout(&other.on_device()), of_layout(&expected), "{format}, loaded");
    }
}

/// Each tensor of its own length.
fn slices_of<'a>(buffers: &'a [Buffer], layout: &Layout, dtype: Dtype) -> Vec<BufferSlice<'a>> {
    let sized = buffers.iter().zip(layout.tensors());
    sized.map(|(buffer, tensor)| buffer.slice(..dtype.bytes(tensor.range().len() as u64))).collect()
}

#[test]
fn a_buffer_of_each_tensor_at_even_numbers() {
    let layout = layout(false);
    for (format, precision) in formats(&["exp_avg"]) {
        let builder = groups(rule("adamw"));
        let mut both = Both::new(device::gpu(), &builder, &precision, &layout, &random(1, layout.len()));
        let params = both.parts(&both.params);
        both.step_parts(&params, &grads_of(&precision, 1, layout.len()));
        both.assert_same_parts(&params, format);
    }
}

/// Parameters and all states in one buffer, each of the bytes that `state_sizes` returns: odd lengths included.
#[test]
fn one_pool_holds_parameters_companions_and_states() {
    let gpu = device::gpu();
    let layout = Layout::builder().packed().tensor("a", &[1_001]).build().unwrap();
    let plain = Optimizer::builder(Sgd::default().with_momentum(0.9).with_lr(0.1));
    for (format, precision) in formats(&["momentum_buffer"]) {
        for (builder, is_sam) in
            [(plain.clone().average(Ema::new(0.5)), false), (plain.clone().sam(Sam::new(0.05)), true)]
        {
            let builder = builder.precision(precision.clone());
            let mut params = Words::nearest(precision.params.dtype(), &random(1, layout.len()));
            let pool = crate::common::storage(gpu, 1 << 16, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
            gpu.queue.write_buffer(&pool, 0, bytemuck::cast_slice(&params.bits));
            let (mut given, mut at) = (builder.clone(), 4_096);
            for state in builder.state_sizes(&layout).unwrap() {
                given = given.state_buffers(state.name, pool.slice(at..at + state.bytes));
                at = (at + state.bytes).next_multiple_of(256);
            }
            let mut on_cpu = builder.build_cpu(&layout).unwrap();
            let mut optimizer = device::build(gpu, given, &layout).unwrap();
            let in_pool = pool.slice(..precision.params.dtype().bytes(layout.len() as u64));
            for seed in 0..2 {
                let grads = grads_of(&precision, seed, layout.len());
                on_cpu.step(params.as_mut(), grads.as_slice()).unwrap();
                let mut recorded = encoder(gpu);
                optimizer.step(&mut recorded, in_pool, &grads.upload(gpu)).unwrap();
                if is_sam {
                    on_cpu.perturb(params.as_mut(), grads.as_slice()).unwrap();
                    optimizer.perturb(&mut recorded, in_pool, &grads.upload(gpu)).unwrap();
                }
                finish(gpu, &optimizer, recorded);
            }
            if !is_sam {
                on_cpu.eval(params.as_mut()).unwrap();
                let mut recorded = encoder(gpu);
                optimizer.eval(&mut recorded, in_pool).unwrap();
                finish(gpu, &optimizer, recorded);
            }
            let got = Words { bits: download_words(gpu, in_pool), ..params.clone() };
            assert_eq!(got.to_f32(), params.to_f32(), "{format}, SAM: {is_sam}");
        }
    }
}

#[test]
fn files_of_another_format_are_named() {
    let layout = Layout::flat(4).unwrap();
    let build =
        |precision: Precision| Optimizer::builder(Sgd::default()).precision(precision).build_cpu(&layout).unwrap();
    let mut file = Vec::new();
    build(Precision::default()).save_to(&mut file, Some((&[0.0; 4]).into())).unwrap();
    let mut checkpoint = wgpu_optim::checkpoint::Checkpoint::new(std::io::Cursor::new(file)).unwrap();
    let mut params = [bf16::ONE; 4];
    let refused =
        build(Precision::bf16_split()).load_from(&mut checkpoint, Some((&mut params).into()), &LoadOptions::default());
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("F32") && text.contains("Bf16Split"), "{text}");
}

#[test]
fn wrong_formats_are_named() {
    let layout = Layout::flat(4).unwrap();
    let build = |precision: Precision| Optimizer::builder(AdamW::default()).precision(precision).build_cpu(&layout);
    let mut optimizer = build(Precision::bf16_split()).unwrap();
    let grads = [bf16::ONE; 4];
    let refused = optimizer.step(&mut [0.0; 4], &grads).unwrap_err();
    assert!(matches!(refused, Error::DtypeMismatch { what: "params", expected: Dtype::Bf16, actual: Dtype::F32 }));
    let refused = optimizer.step(&mut [bf16::ONE; 4], &[0.0; 4]).unwrap_err();
    assert!(matches!(refused, Error::DtypeMismatch { what: "grads", .. }));
    let refused = build(Precision::default().with_state("exp_av", Dtype::Bf16)).unwrap_err();
    assert!(matches!(&refused, Error::UnknownState { name, .. } if name == "exp_av"), "{refused}");
    for precision in [
        Precision::default().with_grads(Dtype::I16),
        Precision::default().with_state("exp_avg", Dtype::I16),
        Precision::default().with_state("exp_avg", Dtype::F16),
    ] {
        assert!(matches!(build(precision), Err(Error::Unsupported { .. })));
    }
    let rows = Layout::builder().tensor("splats", &[2, 2]).packed().build().unwrap();
    let builder = Optimizer::builder(Sgd::default()).precision(Precision::bf16_split());
    let projected = Rows::default().with_projection("splats", wgpu_optim::Projection::unit_norm(0..2));
    assert!(matches!(builder.clone().rows(projected).build_cpu(&rows), Err(Error::Unsupported { .. })));
    let mut moving = builder.rows(Rows::default()).build_cpu(&rows).unwrap();
    let refused = moving.remap(&mut [0.0; 4], &wgpu_optim::CpuRemap::new(&[1, 0])).unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
}

/// Two lanes would write one word: a slice per tensor of a packed layout begins at an odd element.
#[test]
fn slices_at_odd_elements_are_refused() {
    let gpu = device::gpu();
    let layout = Layout::builder().packed().tensor("a", &[3]).tensor("b", &[5]).build().unwrap();
    let mut optimizer =
        device::build(gpu, Optimizer::builder(Sgd::default()).precision(Precision::bf16_split()), &layout).unwrap();
    let of = |len: usize| Words::nearest(Dtype::Bf16, &vec![0.0; len]).upload(gpu);
    let (params, grads) = ([of(3), of(5)], of(8));
    let slices = [params[0].slice(..6), params[1].slice(..10)];
    let mut recorded = encoder(gpu);
    let refused = optimizer.step(&mut recorded, &slices, &grads).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("element 3") && text.contains("2 elements"), "{text}");
    // A file holds each tensor, and copies move whole words.
    let whole = of(8);
    let mut recorded = encoder(gpu);
    let snapshot = optimizer.snapshot(&mut recorded, &whole).unwrap();
    optimizer.step(&mut recorded, &whole, &of(8)).unwrap();
    finish(gpu, &optimizer, recorded);
    for saved in
        [pollster::block_on(optimizer.save_to(Vec::new(), None)), pollster::block_on(snapshot.save_to(Vec::new()))]
    {
        let text = saved.unwrap_err().to_string();
        assert!(text.contains("element 3"), "{text}");
    }
}
