//! Gradients in bf16: a step takes them as it takes the f32 of the same values, to the last bit, however buffers are cut.

use wgpu_optim::history::HistoryOptions;
use wgpu_optim::wgpu::{Buffer, BufferSlice, BufferUsages};
use wgpu_optim::{
    Adafactor, AdamW, BufferSlices, Clip, Dtype, Error, GroupOptions, Lamb, Layout, LayoutBuilder, NonFinite,
    Optimizer, OptimizerBuilder, Sgd, Sophia, Stats,
};

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{bf16, device, encoder, finish, state, storage};

/// Odd lengths: a tail of a word, of four elements, of a workgroup, of a tile.
const TENSORS: [(&str, &[usize]); 5] = [("w", &[129, 67]), ("b", &[2]), ("v", &[8_195]), ("still", &[3]), ("x", &[77])];

fn layout(builder: LayoutBuilder) -> Layout {
    let tensor = |layout: LayoutBuilder, (name, shape): (&str, &[usize])| layout.tensor(name, shape).group(name);
    TENSORS.into_iter().fold(builder, tensor).build().unwrap()
}

fn builders() -> Vec<(&'static str, OptimizerBuilder)> {
    let history = || HistoryOptions::steps(4).with_norms_every(1).per_group();
    let builders = [
        ("one pass", Optimizer::builder(Sgd::default().with_momentum(0.9))),
        ("clip", Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0))),
        ("value", Optimizer::builder(AdamW::default()).clip(Clip::value(0.5)).on_nonfinite(NonFinite::Skip)),
        ("sums", Optimizer::builder(Lamb::default())),
        ("factors", Optimizer::builder(Adafactor::torch().with_min_dim_size_to_factor(2))),
        ("history", Optimizer::builder(AdamW::default()).history(history())),
    ];
    let options = |builder: OptimizerBuilder| {
        builder
            .group("still", GroupOptions::default().frozen())
            .group("v", GroupOptions::default().with_lr_scale(0.5).with_weight_decay(0.1))
    };
    builders.map(|(name, builder)| (name, options(builder))).into()
}

/// Values that bf16 stores: of every size, both zeros, subnormal.
fn gradients(seed: u64, len: usize) -> Vec<bf16::Number> {
    let mut grads = bf16::round(&random(seed, len));
    for (i, bits) in [0x8000, 0x0001, 0x807f, 0x0080, 0x7f00].into_iter().enumerate() {
        grads[37 * i] = bf16::Number::from_bits(bits);
    }
    grads
}

/// Statistics of the steps; parameters, then states.
type Outcome = (Vec<Stats>, Vec<Vec<f32>>);

/// Three steps on the device, with a slice of the parameters per tensor or with the whole buffer; returns the statistics, parameters and states.
fn train<'a>(
    builder: OptimizerBuilder,
    layout: &Layout,
    params: &Buffer,
    cut_params: bool,
    grads: impl Fn(u64) -> Vec<BufferSlice<'a>>,
) -> Outcome {
    let gpu = device::gpu();
    let mut optimizer = device::build(gpu, builder, layout).unwrap();
    let mut stats = Vec::new();
    let tensors: Vec<_> = layout
        .tensors()
        .iter()
        .map(|tensor| params.slice(4 * tensor.range().start as u64..4 * tensor.range().end as u64))
        .collect();
    let params_slices = if cut_params { BufferSlices::Slices(&tensors) } else { BufferSlices::Whole(params) };
    for step in 0..3 {
        let (mut encoder, grads) = (encoder(gpu), grads(step));
        let grads = if let [slice] = grads[..] { BufferSlices::Slice(slice) } else { BufferSlices::Slices(&grads) };
        optimizer.step(&mut encoder, params_slices, grads).unwrap();
        stats.push(finish(gpu, &optimizer, encoder));
    }
    let names: Vec<String> = optimizer.state_names().into_iter().map(str::to_owned).collect();
    let mut values = vec![device::download(gpu, params)];
    values.extend(names.iter().map(|name| state(gpu, &optimizer, name)));
    (stats, values)
}

fn assert_same(left: &Outcome, right: &Outcome, what: &str) {
    assert_eq!(left.0, right.0, "{what}");
    for (number, (left, right)) in left.1.iter().zip(&right.1).enumerate() {
        assert_same_bits(left, right, &format!("{what}, stream {number}"));
    }
}

#[test]
fn the_device_widens_gradients_without_changing_a_bit() {
    let gpu = device::gpu();
    for layout in [layout(Layout::builder()), layout(Layout::builder().packed())] {
        let len = layout.len();
        let start = random(1, len);
        let narrow: Vec<Vec<bf16::Number>> = (0..3).map(|step| gradients(2 + step, len)).collect();
        let wide: Vec<Buffer> = narrow.iter().map(|grads| device::upload(gpu, &bf16::widen(grads))).collect();
        let packed: Vec<Buffer> = narrow.iter().map(|grads| bf16::upload(gpu, grads)).collect();
        // A slice that begins at a word which is no multiple of four elements, and ends in the middle of one.
        let shifted: Vec<Buffer> =
            narrow.iter().map(|grads| bf16::upload(gpu, &[&vec![bf16::Number::NAN; 6][..], grads].concat())).collect();
        let bytes = 2 * len as u64;
        for (name, builder) in builders() {
            let params = || device::upload(gpu, &start);
            let expected =
                train(builder.clone(), &layout, &params(), false, |step| vec![wide[step as usize].slice(..)]);
            assert!(expected.0.iter().all(|stats| stats.skipped == 0), "{name}");
            let builder = builder.grad_dtype(Dtype::Bf16);
            let whole = |step: u64| vec![packed[step as usize].slice(..bytes)];
            assert_same(&train(builder.clone(), &layout, &params(), false, whole), &expected, name);
            // Without padding, tensors begin at odd elements.
            assert_same(&train(builder.clone(), &layout, &params(), true, whole), &expected, &format!("{name}, cut"));
            let slice = |step: u64| vec![shifted[step as usize].slice(12..12 + bytes)];
            assert_same(&train(builder, &layout, &params(), false, slice), &expected, &format!("{name}, shifted"));
        }
    }
}

/// Each tensor in a buffer of its own length, odd or not.
#[test]
fn gradients_of_a_tensor_each_need_no_padding() {
    let gpu = device::gpu();
    let layout = layout(Layout::builder());
    let (start, narrow) = (random(1, layout.len()), gradients(2, layout.len()));
    let wide = device::upload(gpu, &bf16::widen(&narrow));
    let tensors: Vec<_> = layout.tensors().iter().map(|tensor| &narrow[tensor.range()]).collect();
    let buffers: Vec<Buffer> = tensors.iter().map(|grads| bf16::upload(gpu, grads)).collect();
    for (name, builder) in builders() {
        let params = || device::upload(gpu, &start);
        let expected = train(builder.clone(), &layout, &params(), false, |_| vec![wide.slice(..)]);
        let slices = |_| {
            let slices = buffers.iter().zip(&tensors);
            slices.map(|(buffer, grads)| buffer.slice(..2 * grads.len() as u64)).collect()
        };
        assert_same(&train(builder.grad_dtype(Dtype::Bf16), &layout, &params(), false, slices), &expected, name);
    }
}

#[test]
fn the_cpu_engine_widens_gradients_without_changing_a_bit() {
    for layout in [layout(Layout::builder()), layout(Layout::builder().packed())] {
        for (name, builder) in builders() {
            let mut wide = builder.clone().build_cpu(&layout).unwrap();
            let mut narrow = builder.grad_dtype(Dtype::Bf16).build_cpu(&layout).unwrap();
            let mut params = [random(1, layout.len()), random(1, layout.len())];
            for step in 0..3 {
                let grads = gradients(2 + step, layout.len());
                let stats = wide.step(&mut params[0], &bf16::widen(&grads)).unwrap();
                assert_eq!(narrow.step(&mut params[1], &grads).unwrap(), stats, "{name}");
            }
            assert_same_bits(&params[0], &params[1], name);
        }
    }
}

#[test]
fn bad_numbers_are_found_at_their_element() {
    let (gpu, layout) = (device::gpu(), Layout::builder().tensor("p", &[999]).packed().build().unwrap());
    for (element, bits) in [(0, 0x7f80), (997, 0xff80), (998, 0x7fc0), (500, 0x7f81)] {
        let mut grads = gradients(2, 999);
        grads[element] = bf16::Number::from_bits(bits);
        let builder = Optimizer::builder(AdamW::default()).on_nonfinite(NonFinite::Skip).grad_dtype(Dtype::Bf16);
        let mut params = random(1, 999);
        let on_cpu = builder.clone().build_cpu(&layout).unwrap().step(&mut params, &grads).unwrap();
        let buffer = bf16::upload(gpu, &grads);
        let device_params = device::upload(gpu, &params);
        let mut optimizer = device::build(gpu, builder, &layout).unwrap();
        let mut encoder = encoder(gpu);
        optimizer.step(&mut encoder, &device_params, &buffer).unwrap();
        let on_device = finish(gpu, &optimizer, encoder);
        for stats in [on_cpu, on_device] {
            assert_eq!((stats.skipped, stats.first_nonfinite), (1, Some(element as u64)), "{bits:x}");
        }
        assert_same_bits(&device::download(gpu, &device_params), &params, "skipped");
    }
}

/// The estimate of the Hessian is no gradient.
#[test]
fn auxiliary_updates_take_f32() {
    let (gpu, layout) = (device::gpu(), layout(Layout::builder()));
    let (params, estimate) = (random(1, layout.len()), random(2, layout.len()));
    let builder = Optimizer::builder(Sophia::default()).grad_dtype(Dtype::Bf16);
    let mut on_cpu = builder.clone().build_cpu(&layout).unwrap();
    on_cpu.update_hessian(&mut params.clone(), &estimate).unwrap();
    let mut optimizer = device::build(gpu, builder, &layout).unwrap();
    let (params, estimate) = (device::upload(gpu, &params), device::upload(gpu, &estimate));
    let mut encoder = encoder(gpu);
    optimizer.update_hessian(&mut encoder, &params, &estimate).unwrap();
    gpu.queue.submit([encoder.finish()]);
    assert_same_bits(&state(gpu, &optimizer, "hessian"), on_cpu.state("hessian").unwrap().as_f32().unwrap(), "hessian");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("a", &[3]).tensor("b", &[5]).packed().build().unwrap();
    let narrow = Optimizer::builder(AdamW::default()).grad_dtype(Dtype::Bf16);
    let mut params = vec![1.0; 8];
    let mut on_cpu = narrow.clone().build_cpu(&layout).unwrap();
    let refused = on_cpu.step(&mut params, &[1.0f32; 8]).unwrap_err();
    assert!(matches!(refused, Error::DtypeMismatch { expected: Dtype::Bf16, actual: Dtype::F32, .. }), "{refused}");
    let mut wide = Optimizer::builder(AdamW::default()).build_cpu(&layout).unwrap();
    let refused = wide.step(&mut params, &bf16::round(&[1.0; 8])).unwrap_err();
    assert!(matches!(refused, Error::DtypeMismatch { expected: Dtype::F32, actual: Dtype::Bf16, .. }), "{refused}");
    assert!(params.iter().all(|&param| param == 1.0));

    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
    let (params, grads) = (storage(gpu, 32, usage), storage(gpu, 32, usage));
    let step = |builder: &OptimizerBuilder, grads: BufferSlices<'_>| {
        let mut optimizer = device::build(gpu, builder.clone(), &layout).unwrap();
        optimizer.step(&mut encoder(gpu), &params, grads)
    };
    let refused = step(&narrow, (&grads).into()).unwrap_err();
    assert!(matches!(refused, Error::LengthMismatch { expected: 8, actual: 16, .. }), "{refused}");
    for range in [2..18, 16..31] {
        let refused = step(&narrow, grads.slice(range).into()).unwrap_err();
        assert!(matches!(refused, Error::MisalignedSlice { slice: 0, .. }), "{refused}");
    }
    // The last word reaches beyond the buffer.
    let short = storage(gpu, 18, usage);
    let by_tensor = [grads.slice(..6), short.slice(8..18)];
    let refused = step(&narrow, (&by_tensor).into()).unwrap_err();
    assert!(matches!(refused, Error::MisalignedSlice { slice: 1, .. }), "{refused}");
    // Without padding the second tensor begins in the middle of a word of the flat space.
    let by_tensor = [grads.slice(..6), grads.slice(8..18)];
    step(&narrow, (&by_tensor).into()).unwrap();
    let refused = step(&narrow.clone().clip(Clip::global_norm(1.0)), (&by_tensor).into()).unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }) && refused.to_string().contains("element 3"), "{refused}");
}

/// Tensors that begin in the middle of four elements, in buffers of their own, where sums read from before the binding on.
#[test]
fn sums_begin_where_a_tensor_begins() {
    let gpu = device::gpu();
    let layout =
        Layout::builder().tensor("a", &[8_194]).tensor("b", &[8_198]).tensor("c", &[70]).packed().build().unwrap();
    let (start, narrow) = (random(1, layout.len()), gradients(2, layout.len()));
    let wide = device::upload(gpu, &bf16::widen(&narrow));
    let buffers: Vec<Buffer> =
        layout.tensors().iter().map(|tensor| bf16::upload(gpu, &narrow[tensor.range()])).collect();
    for (name, ungrouped) in
        [("sums", Optimizer::builder(Lamb::default())), ("factors", Optimizer::builder(Adafactor::torch()))]
    {
        let params = || device::upload(gpu, &start);
        let expected = train(ungrouped.clone(), &layout, &params(), false, |_| vec![wide.slice(..)]);
        let slices = |_| buffers.iter().map(|buffer| buffer.slice(..)).collect();
        assert_same(&train(ungrouped.grad_dtype(Dtype::Bf16), &layout, &params(), false, slices), &expected, name);
    }
}

#[test]
fn steps_are_prepared_where_auxiliary_updates_take_f32() {
    let (gpu, layout) = (device::gpu(), layout(Layout::builder()));
    let builder = Optimizer::builder(Sophia::default()).grad_dtype(Dtype::Bf16);
    let mut optimizer = device::build(gpu, builder, &layout).unwrap();
    let params = device::upload(gpu, &random(1, layout.len()));
    let grads = bf16::upload(gpu, &gradients(2, layout.len()));
    optimizer.prepare(&params, &grads).unwrap();
}
