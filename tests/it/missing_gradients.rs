//! Steps in which tensors have no gradient, against `torch.optim` with `grad=None` (`golden/missing_gradients.json`), and
//! on both engines.

use serde::Deserialize;
use wgpu_optim::checkpoint::LoadOptions;
use wgpu_optim::wgpu::{Buffer, BufferSlice, BufferUsages, CommandEncoder};
use wgpu_optim::{
    Adafactor, AdamW, Clip, CpuOptimizer, Dtype, Ema, Error, Gpu, GroupOptions, HostSlice, Lamb, Layout, Lion,
    Lookahead, NAdam, NonFinite, Optimizer, OptimizerBuilder, Rows, RuleConfig, Sam, ScheduleFreeAdamW, Sgd, Stats,
};

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{bf16, device, encoder, finish, state, storage};

#[derive(Deserialize)]
struct Case {
    optimizer: RuleConfig,
    max_norm: Option<f64>,
    start: Vec<Vec<f32>>,
    grads: Vec<Vec<Option<Vec<f32>>>>,
    /// After each step.
    params: Vec<Vec<Vec<f64>>>,
}

fn options(grads: &[Option<Vec<f32>>]) -> Vec<Option<HostSlice<'_>>> {
    grads.iter().map(|grad| grad.as_ref().map(HostSlice::from)).collect()
}

/// Where the gradients of an optimizer on a device lie.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In a buffer each.
    Buffers,
    /// In one buffer, each where the flat space has it. What lies in place of a missing one is not a number.
    Flat,
    /// In one buffer, copied first.
    Gathered,
}

const PLACES: [Place; 3] = [Place::Buffers, Place::Flat, Place::Gathered];

/// An optimizer on a device whose gradients may be missing.
struct OnDevice<'a> {
    gpu: &'a Gpu,
    optimizer: Optimizer,
    layout: Layout,
    params: Buffer,
    place: Place,
    dtype: Dtype,
}

impl OnDevice<'_> {
    fn new(builder: &OptimizerBuilder, layout: &Layout, params: &[f32], place: Place, dtype: Dtype) -> Self {
        let gpu = device::gpu();
        let builder = builder.clone().grad_dtype(dtype);
        let builder = if matches!(place, Place::Gathered) { builder.gather_gradients() } else { builder };
        let optimizer = device::build(gpu, builder, layout).unwrap();
        Self { gpu, optimizer, layout: layout.clone(), params: device::upload(gpu, params), place, dtype }
    }

    fn bytes(&self, values: &[f32]) -> Vec<u8> {
        match self.dtype {
            Dtype::Bf16 => bf16::round(values).iter().flat_map(|number| number.to_bits().to_ne_bytes()).collect(),
            _ => bytemuck::cast_slice(values).to_vec(),
        }
    }

    /// Buffers of the gradients, with the bytes of each.
    fn upload(&self, grads: &[Option<Vec<f32>>]) -> Vec<Option<(Buffer, u64, u64)>> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let flat = storage(self.gpu, self.layout.buffer_size_of(self.dtype), usage);
        self.gpu.queue.write_buffer(&flat, 0, &vec![0xff; flat.size() as usize]);
        let grad = |(grad, tensor): (&Option<Vec<f32>>, &wgpu_optim::TensorInfo)| {
            let mut bytes = self.bytes(grad.as_ref()?);
            let len = bytes.len() as u64;
            bytes.resize(bytes.len().next_multiple_of(4), 0xff);
            let start = self.dtype.bytes(tensor.range().start as u64);
            let (buffer, start) = match self.place {
                Place::Buffers => (storage(self.gpu, bytes.len() as u64, usage), 0),
                Place::Flat | Place::Gathered => (flat.clone(), start),
            };
            self.gpu.queue.write_buffer(&buffer, start, &bytes);
            Some((buffer, start, start + len))
        };
        grads.iter().zip(self.layout.tensors()).map(grad).collect()
    }

    fn record(&mut self, encoder: &mut CommandEncoder, grads: &[Option<Vec<f32>>]) -> Result<(), Error> {
        let buffers = self.upload(grads);
        let slices: Vec<Option<BufferSlice<'_>>> =
            buffers.iter().map(|part| part.as_ref().map(|(buffer, start, end)| buffer.slice(*start..*end))).collect();
        let params = self.params.slice(..4 * self.layout.len() as u64);
        self.optimizer.step(encoder, params, &slices)
    }

    fn step(&mut self, grads: &[Option<Vec<f32>>]) -> Stats {
        let mut recorded = encoder(self.gpu);
        self.record(&mut recorded, grads).unwrap();
        finish(self.gpu, &self.optimizer, recorded)
    }

    fn params(&self) -> Vec<f32> {
        device::download(self.gpu, &self.params)
    }

    fn assert_same(&self, reference: &CpuOptimizer, params: &[f32], what: &str) {
        assert_same_bits(&self.params()[..params.len()], params, what);
        for name in self.optimizer.state_names() {
            let on_device = state(self.gpu, &self.optimizer, name);
            assert_same_bits(&on_device, reference.state(name).unwrap().as_f32().unwrap(), &format!("{what}, {name}"));
        }
    }
}

fn layout_of(lengths: &[usize]) -> Layout {
    let tensor = |layout: wgpu_optim::LayoutBuilder, (i, &len): (usize, &usize)| layout.tensor(i.to_string(), &[len]);
    lengths.iter().enumerate().fold(Layout::builder(), tensor).build().unwrap()
}

fn flat(layout: &Layout, parts: &[Vec<f32>]) -> Vec<f32> {
    let mut values = vec![0.0; layout.len()];
    for (tensor, part) in layout.tensors().iter().zip(parts) {
        values[tensor.range()].copy_from_slice(part);
    }
    values
}

/// To 1e-5 of the length of the vector, as after a thousand steps.
fn assert_near(got: &[f32], expected: &[f64], what: &str) {
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let off = length(&mut got.iter().zip(expected).map(|(&got, expected)| f64::from(got) - expected));
    let most = 1e-5 * length(&mut expected.iter().copied());
    assert!(off <= most, "{what}: off by {off}, allowed {most}\n{got:?}\n{expected:?}");
}

#[test]
fn tensors_without_a_gradient_are_those_of_pytorch() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../golden/missing_gradients.json")).unwrap();
    for (number, Case { optimizer, max_norm, start, grads, params }) in cases.into_iter().enumerate() {
        let layout = layout_of(&start.iter().map(Vec::len).collect::<Vec<_>>());
        let what = format!("{optimizer:?}, {max_norm:?}");
        let mut builder = optimizer.builder().missing_gradients();
        if let Some(max_norm) = max_norm {
            builder = builder.clip(Clip::global_norm(max_norm));
        }
        let mut reference = builder.clone().build_cpu(&layout).unwrap();
        let mut on_cpu = flat(&layout, &start);
        let place = PLACES[number % 3];
        let mut on_device = OnDevice::new(&builder, &layout, &on_cpu, place, Dtype::F32);
        for (step, (grads, expected)) in grads.iter().zip(&params).enumerate() {
            let stats = reference.step_with_missing(&mut on_cpu, &options(grads)).unwrap();
            assert_eq!(stats.missing_gradients, grads.iter().filter(|grad| grad.is_none()).count() as u64);
            assert_eq!(on_device.step(grads), stats, "step {step}, {what}");
            on_device.assert_same(&reference, &on_cpu, &format!("step {step}, {place:?}, {what}"));
            for (tensor, expected) in layout.tensors().iter().zip(expected) {
                assert_near(&on_cpu[tensor.range()], expected, &format!("step {step}, {}, {what}", tensor.name()));
            }
        }
    }
}

/// Lengths that end within quads and tiles, and several whole tiles.
const LENGTHS: [usize; 6] = [3 * 8_192 + 100, 5, 64, 70_000, 1, 8_191];
/// Bits of the tensors that have a gradient.
const PATTERNS: [u32; 7] = [0b11_1111, 0b00_0001, 0b11_0110, 0b00_1000, 0b10_0001, 0b00_0000, 0b01_1111];

fn grads(seed: u64, pattern: u32) -> Vec<Option<Vec<f32>>> {
    let grad = |(i, &len): (usize, &usize)| ((pattern >> i) & 1 == 1).then(|| random(seed * 10 + i as u64, len));
    LENGTHS.iter().enumerate().map(grad).collect()
}

fn builders() -> Vec<OptimizerBuilder> {
    let clip = || Clip::global_norm(1.0);
    vec![
        Optimizer::builder(AdamW::default().with_amsgrad(true)),
        Optimizer::builder(NAdam::default()).clip(clip()).average(Ema::new(0.9).debiased()),
        Optimizer::builder(ScheduleFreeAdamW::default()).clip(clip()),
        Optimizer::builder(Sgd::default().with_momentum(0.9)).lookahead(Lookahead::new(2, 0.5)).clip(Clip::value(0.5)),
        Optimizer::builder(Lion::default()).on_nonfinite(NonFinite::Skip),
    ]
}

/// Bits are the same on both engines, wherever gradients lie; a tensor without one keeps every byte.
#[test]
fn missing_gradients_leave_every_byte() {
    let layout = layout_of(&LENGTHS);
    let start = random(1, layout.len());
    for (number, builder) in builders().into_iter().enumerate() {
        let builder = builder.missing_gradients();
        for (place, dtype) in [
            (Place::Buffers, Dtype::F32),
            (Place::Flat, Dtype::Bf16),
            (Place::Flat, Dtype::F32),
            (Place::Gathered, Dtype::Bf16),
        ] {
            let what = format!("builder {number}, {place:?}, {dtype:?}");
            let mut reference = builder.clone().grad_dtype(dtype).build_cpu(&layout).unwrap();
            let mut on_cpu = start.clone();
            let mut on_device = OnDevice::new(&builder, &layout, &start, place, dtype);
            for (step, &pattern) in PATTERNS.iter().enumerate() {
                let grads = grads(step as u64, pattern);
                let rounded: Vec<_> = grads.iter().map(|grad| grad.as_ref().map(|grad| bf16::round(grad))).collect();
                let before = on_cpu.clone();
                let given = match dtype {
                    Dtype::Bf16 => rounded.iter().map(|grad| grad.as_ref().map(HostSlice::from)).collect(),
                    _ => options(&grads),
                };
                let stats = reference.step_with_missing(&mut on_cpu, &given).unwrap();
                assert_eq!(on_device.step(&grads), stats, "{what}, step {step}");
                for (tensor, grad) in layout.tensors().iter().zip(&grads) {
                    let is_same = on_cpu[tensor.range()] == before[tensor.range()];
                    assert_eq!(is_same, grad.is_none(), "{what}, step {step}, tensor {}", tensor.name());
                }
            }
            on_device.assert_same(&reference, &on_cpu, &what);
        }
    }
}

/// A skipped step counts for no tensor, and its missing gradients are told; so is a step of a dropped encoder.
#[test]
fn skipped_steps_count_for_no_tensor() {
    let layout = layout_of(&LENGTHS);
    let builder = Optimizer::builder(NAdam::default()).on_nonfinite(NonFinite::Skip).missing_gradients();
    let start = random(1, layout.len());
    let (mut plain, mut reference) = [(); 2].map(|()| builder.clone().build_cpu(&layout).unwrap()).into();
    let (mut expected, mut on_cpu) = (start.clone(), start.clone());
    let mut on_device = OnDevice::new(&builder, &layout, &start, Place::Buffers, Dtype::F32);
    for (step, pattern) in [0b11_1111, 0b00_0011, 0b11_0100].into_iter().enumerate() {
        let good = grads(step as u64, pattern);
        let mut bad = grads(7, 0b00_1001);
        bad[3].as_mut().unwrap()[69_999] = f32::INFINITY;
        let stats = reference.step_with_missing(&mut on_cpu, &options(&bad)).unwrap();
        assert_eq!((stats.skipped, stats.missing_gradients), (step as u64 + 1, 4));
        assert_eq!(on_device.step(&bad), stats);
        let mut dropped = encoder(on_device.gpu);
        on_device.record(&mut dropped, &good).unwrap();
        drop(dropped);
        plain.step_with_missing(&mut expected, &options(&good)).unwrap();
        let stats = reference.step_with_missing(&mut on_cpu, &options(&good)).unwrap();
        assert_eq!(on_device.step(&good), stats);
    }
    assert_same_bits(&on_cpu, &expected, "skipped steps");
    on_device.assert_same(&reference, &on_cpu, "skipped steps");
}

/// Steps of different patterns in one submission; more patterns than are kept.
#[test]
fn patterns_change_within_a_submission() {
    let layout = layout_of(&LENGTHS);
    let builder = Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0)).missing_gradients();
    let builder = builder.cached_buffer_sets(2);
    let start = random(1, layout.len());
    for place in PLACES {
        let mut on_device = OnDevice::new(&builder, &layout, &start, place, Dtype::F32);
        let mut recorded = encoder(on_device.gpu);
        let mut on_cpu = start.clone();
        let mut reference = builder.clone().build_cpu(&layout).unwrap();
        let mut expected = None;
        for (step, &pattern) in PATTERNS.iter().chain(&PATTERNS).enumerate() {
            let grads = grads(1 + step as u64, pattern);
            // `upload` writes at once; gradients in one buffer must differ by buffer.
            on_device.record(&mut recorded, &grads).unwrap();
            expected = Some(reference.step_with_missing(&mut on_cpu, &options(&grads)).unwrap());
        }
        assert_eq!(Some(finish(on_device.gpu, &on_device.optimizer, recorded)), expected, "{place:?}");
        on_device.assert_same(&reference, &on_cpu, &format!("{place:?}"));
    }
}

/// Snapshots and checkpoints hold the steps of each tensor; a file goes from one engine to the other.
#[test]
fn snapshots_and_checkpoints_hold_the_steps_of_tensors() {
    let layout = layout_of(&LENGTHS);
    let builder = Optimizer::builder(NAdam::default()).average(Ema::new(0.9).debiased()).missing_gradients();
    let start = random(1, layout.len());
    let mut reference = builder.clone().build_cpu(&layout).unwrap();
    let mut on_cpu = start.clone();
    let mut on_device = OnDevice::new(&builder, &layout, &start, Place::Buffers, Dtype::F32);
    let step = |reference: &mut CpuOptimizer, on_cpu: &mut [f32], on_device: &mut OnDevice<'_>, steps: &[u32]| {
        for (seed, &pattern) in steps.iter().enumerate() {
            let grads = grads(seed as u64, pattern);
            let stats = reference.step_with_missing(&mut *on_cpu, &options(&grads)).unwrap();
            assert_eq!(on_device.step(&grads), stats);
        }
    };
    step(&mut reference, &mut on_cpu, &mut on_device, &PATTERNS[1..4]);
    let of_cpu = reference.snapshot(&on_cpu).unwrap();
    let mut recorded = encoder(on_device.gpu);
    let params = on_device.params.clone();
    let slice = params.slice(..4 * layout.len() as u64);
    let snapshot = on_device.optimizer.snapshot(&mut recorded, slice).unwrap();
    on_device.gpu.queue.submit([recorded.finish()]);
    let folder = tempfile::tempdir().unwrap();
    let [of_device, of_host] = ["device", "host"].map(|name| folder.path().join(name));
    on_device.optimizer.save(&of_device, Some(slice.into())).unwrap();
    reference.save(&of_host, Some((&on_cpu).into())).unwrap();
    assert!(std::fs::read(&of_device).unwrap() == std::fs::read(&of_host).unwrap(), "the files differ");
    step(&mut reference, &mut on_cpu, &mut on_device, &PATTERNS);
    let expected = on_cpu.clone();

    let mut recorded = encoder(on_device.gpu);
    on_device.optimizer.restore(&mut recorded, slice, &snapshot).unwrap();
    on_device.gpu.queue.submit([recorded.finish()]);
    reference.restore(&mut on_cpu, &of_cpu).unwrap();
    step(&mut reference, &mut on_cpu, &mut on_device, &PATTERNS);
    assert_same_bits(&on_cpu, &expected, "restored");
    on_device.assert_same(&reference, &on_cpu, "restored");

    let mut reference = builder.clone().build_cpu(&layout).unwrap();
    let mut on_device = OnDevice::new(&builder, &layout, &start, Place::Flat, Dtype::F32);
    let loaded = reference.load(&of_device, Some((&mut on_cpu).into()), &LoadOptions::default()).unwrap();
    assert!(loaded.differences.is_empty(), "{:?}", loaded.differences);
    let params = on_device.params.clone();
    let slice = params.slice(..4 * layout.len() as u64);
    let loaded = on_device.optimizer.load(&of_host, Some(slice.into()), &LoadOptions::default()).unwrap();
    assert!(loaded.differences.is_empty(), "{:?}", loaded.differences);
    step(&mut reference, &mut on_cpu, &mut on_device, &PATTERNS);
    assert_same_bits(&on_cpu, &expected, "loaded");
    on_device.assert_same(&reference, &on_cpu, "loaded");
}

/// Scalar states of a file of an optimizer without missing gradients are those of every tensor.
#[test]
fn tensors_continue_from_scalar_states_of_a_file() {
    let layout = layout_of(&[5, 3]);
    for builder in [Optimizer::builder(NAdam::default()), Optimizer::builder(ScheduleFreeAdamW::default())] {
        let mut plain = builder.clone().build_cpu(&layout).unwrap();
        let mut expected = flat(&layout, &[random(1, 5), random(4, 3)]);
        let grad = [random(2, 5), random(3, 3)];
        let (given, flat) = (grad.clone().map(Some), flat(&layout, &grad));
        plain.step(&mut expected, &flat).unwrap();
        let (folder, mut on_cpu) = (tempfile::tempdir().unwrap(), vec![0.0; layout.len()]);
        let file = folder.path().join("plain");
        plain.save(&file, Some((&expected).into())).unwrap();
        let builder = builder.missing_gradients();
        let mut reference = builder.clone().build_cpu(&layout).unwrap();
        let mut on_device = OnDevice::new(&builder, &layout, &on_cpu, Place::Flat, Dtype::F32);
        let params = on_device.params.clone();
        let slice = params.slice(..4 * layout.len() as u64);
        let options_of_load = LoadOptions::default();
        let differences = reference.load(&file, Some((&mut on_cpu).into()), &options_of_load).unwrap().differences;
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert_eq!(on_device.optimizer.load(&file, Some(slice.into()), &options_of_load).unwrap().differences.len(), 1);
        plain.step(&mut expected, &flat).unwrap();
        reference.step_with_missing(&mut on_cpu, &options(&given)).unwrap();
        on_device.step(&given);
        assert_same_bits(&on_cpu, &expected, "continued");
        on_device.assert_same(&reference, &on_cpu, "continued");
    }
}

/// Tensors continue from steps that the program gives, and from files of optimizers without missing gradients.
#[test]
fn tensors_continue_from_given_steps() {
    let layout = layout_of(&LENGTHS);
    let builder = Optimizer::builder(AdamW::default());
    let start = random(1, layout.len());
    let all = |seed: u64| flat(&layout, &grads(seed, 0b11_1111).into_iter().flatten().collect::<Vec<_>>());
    let mut plain = builder.clone().build_cpu(&layout).unwrap();
    let mut expected = start.clone();
    for seed in 0..3 {
        plain.step(&mut expected, &all(seed)).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plain");
    plain.save(&file, Some((&expected).into())).unwrap();

    let builder = builder.missing_gradients();
    let mut reference = builder.clone().build_cpu(&layout).unwrap();
    let mut on_cpu = start.clone();
    let loaded = reference.load(&file, Some((&mut on_cpu).into()), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.differences.len(), 1, "{:?}", loaded.differences);
    let mut on_device = OnDevice::new(&builder, &layout, &expected, Place::Buffers, Dtype::F32);
    for name in plain.state_names() {
        crate::common::set_state(
            on_device.gpu,
            &on_device.optimizer,
            name,
            plain.state(name).unwrap().as_f32().unwrap(),
        );
    }
    on_device.optimizer.set_applied_steps(3).unwrap();
    let last = grads(3, 0b11_1111);
    plain.step(&mut expected, &all(3)).unwrap();
    reference.step_with_missing(&mut on_cpu, &options(&last)).unwrap();
    on_device.step(&last);
    assert_same_bits(&on_cpu, &expected, "loaded");
    on_device.assert_same(&reference, &on_cpu, "given");
}

#[test]
fn what_missing_gradients_do_not_work_with_is_refused() {
    let layout = layout_of(&[4, 8]);
    let adamw = || Optimizer::builder(AdamW::default()).missing_gradients();
    let packed = Layout::builder().tensor("a", &[5]).tensor("b", &[5]).packed().build().unwrap();
    for (what, builder, layout) in [
        ("LAMB", Optimizer::builder(Lamb::default()).missing_gradients(), &layout),
        ("Adafactor", Optimizer::builder(Adafactor::default()).missing_gradients(), &layout),
        ("clipping by group", adamw().clip(Clip::group_norm(1.0)), &layout),
        ("SAM", adamw().sam(Sam::new(0.05)), &layout),
        ("accumulation", adamw().accumulate_gradients(), &layout),
        ("rows", adamw().rows(Rows::default()), &layout),
        ("norms", adamw().history(wgpu_optim::history::HistoryOptions::steps(1).with_norms_every(1)), &layout),
        ("packed", adamw(), &packed),
    ] {
        let error = builder.build_cpu(layout).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{what}: {error:?}");
    }
}

/// Lists that do not fit, and missing gradients without the option.
#[test]
fn lists_of_options_are_checked() {
    let gpu = device::gpu();
    let layout =
        Layout::builder().tensor("a", &[4]).tensor("none", &[0, 3]).tensor("b", &[8]).group("b").build().unwrap();
    let [a, b] = [4, 8].map(|len| device::upload(gpu, &random(1, len)));
    let (a, b) = (a.slice(..), b.slice(..));
    let values = random(1, 8);
    let params = device::upload(gpu, &random(1, layout.len()));
    let (of_a, of_b): (HostSlice<'_>, HostSlice<'_>) = ((&values[..4]).into(), (&values).into());
    let check = |missing: bool, grads: &[Option<BufferSlice<'_>>], on_host: &[Option<HostSlice<'_>>]| {
        let builder = Optimizer::builder(AdamW::default());
        let builder = if missing { builder.missing_gradients() } else { builder };
        let mut reference = builder.clone().build_cpu(&layout).unwrap();
        let mut optimizer = device::build(gpu, builder, &layout).unwrap();
        let result = optimizer.step(&mut encoder(gpu), &params, grads);
        let of_cpu = reference.step_with_missing(&mut vec![0.0; layout.len()], on_host);
        assert_eq!(format!("{:?}", result.as_ref().err()), format!("{:?}", of_cpu.err()));
        result
    };
    let result = check(false, &[Some(a), None, None], &[Some(of_a), None, None]);
    assert!(matches!(&result, Err(Error::MissingGradient { tensor }) if tensor == "b"), "{result:?}");
    check(false, &[Some(a), None, Some(b)], &[Some(of_a), None, Some(of_b)]).unwrap();
    check(true, &[Some(a), None, None], &[Some(of_a), None, None]).unwrap();
    let result = check(true, &[Some(a), None], &[Some(of_a), None]);
    assert!(matches!(result, Err(Error::GradientCount { expected: 3, actual: 2 })), "{result:?}");
    let result = check(true, &[Some(b), None, None], &[Some(of_b), None, None]);
    assert!(
        matches!(&result, Err(Error::GradientLength { tensor, expected: 4, actual: 8 }) if tensor == "a"),
        "{result:?}"
    );

    // Parameters cannot be missing, and kernels load four elements of one tensor.
    let builder = Optimizer::builder(AdamW::default()).missing_gradients().group("b", GroupOptions::default().frozen());
    let mut optimizer = device::build(gpu, builder, &layout).unwrap();
    let result = optimizer.step(&mut encoder(gpu), &[Some(a), None, None], &[None, None, Some(b)]);
    assert!(matches!(result, Err(Error::LengthMismatch { what: "params", expected: 8, actual: 0, .. })), "{result:?}");
    let first = device::upload(gpu, &[0.0; 2]);
    let cut = [first.slice(..), params.slice(8..4 * layout.len() as u64)];
    let result = optimizer.step(&mut encoder(gpu), &cut, &[Some(a), None, None]);
    assert!(matches!(result, Err(Error::Unsupported { .. })), "{result:?}");
}
