//! Gradients that overlap each other: two parameters that enter as a sum have one gradient.

use wgpu_optim::distributed::{DistributedError, Sharded, ThreadCommunicator};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::wgpu::{Buffer, BufferSlice, BufferUsages, CommandEncoder};
use wgpu_optim::{
    AdamW, Clip, Dtype, Error, Lamb, Layout, LayoutBuilder, NonFinite, Optimizer, OptimizerBuilder, Sgd, TensorInfo,
};

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{bf16, device, encoder, finish, state, storage};

/// Shapes, with the first element of each gradient among the shared ones.
const TENSORS: [(&str, &[usize], usize); 8] = [
    // Neighbors as in a padded layout. Between them lies a part of the third gradient.
    ("before", &[61], 0),
    ("behind", &[64], 64),
    ("across", &[50], 30),
    ("same", &[129, 67], 200),
    ("again", &[129, 67], 200),
    ("shifted", &[8_195], 204),
    ("inner", &[3], 210),
    ("last", &[90], 8_800),
];
/// Elements of all gradients together.
const SHARED_LEN: usize = 8_890;

fn layout(builder: LayoutBuilder) -> Layout {
    TENSORS.into_iter().fold(builder, |layout, (name, shape, _)| layout.tensor(name, shape)).build().unwrap()
}

/// Calls of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Call {
    Slices,
    Options,
    Accumulate,
}

fn builders() -> [(&'static str, OptimizerBuilder, Call); 7] {
    let adamw = || Optimizer::builder(AdamW::default());
    let clip = Clip::global_norm(1.0);
    let history = HistoryOptions::steps(4).with_norms_every(1);
    [
        ("one pass", adamw(), Call::Slices),
        ("clip", Optimizer::builder(Sgd::default().with_momentum(0.9)).clip(clip), Call::Slices),
        ("gathers", adamw().clip(clip).gather_gradients(), Call::Slices),
        ("sums", Optimizer::builder(Lamb::default()), Call::Slices),
        ("history", adamw().history(history).on_nonfinite(NonFinite::Skip), Call::Slices),
        ("options", adamw().clip(clip).missing_gradients(), Call::Options),
        ("accumulates", adamw().clip(clip).accumulate_gradients(), Call::Accumulate),
    ]
}

fn bytes_of(values: &[f32], dtype: Dtype) -> Vec<u8> {
    let mut bytes: Vec<u8> = match dtype {
        Dtype::Bf16 => bf16::round(values).iter().flat_map(|number| number.to_bits().to_ne_bytes()).collect(),
        _ => bytemuck::cast_slice(values).to_vec(),
    };
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn record(
    call: Call,
    optimizer: &mut Optimizer,
    encoder: &mut CommandEncoder,
    params: &[BufferSlice<'_>],
    grads: Vec<BufferSlice<'_>>,
) -> Result<(), Error> {
    match call {
        Call::Slices => optimizer.step(encoder, params, &grads),
        Call::Options => {
            let grads: Vec<_> = grads.into_iter().map(Some).collect();
            optimizer.step(encoder, params, &grads)
        }
        Call::Accumulate => {
            optimizer.accumulate(encoder, &grads, 0.5)?;
            optimizer.step_accumulated(encoder, params)
        }
    }
}

/// The slice of each tensor in a buffer of the flat space.
fn flat_slices<'a>(buffer: &'a Buffer, layout: &Layout, dtype: Dtype) -> Vec<BufferSlice<'a>> {
    let slice = |tensor: &TensorInfo| {
        let range = tensor.range();
        buffer.slice(dtype.bytes(range.start as u64)..dtype.bytes(range.end as u64))
    };
    layout.tensors().iter().map(slice).collect()
}

/// Three steps over shared bytes are those over a copy for each tensor, to the last bit of parameters, states and statistics.
fn compare(layout: &Layout, (name, builder, call): (&str, &OptimizerBuilder, Call), dtype: Dtype) {
    let gpu = device::gpu();
    let builder = builder.clone().grad_dtype(dtype);
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
    let values = random(1, layout.len());
    let shared = |t: u64| random(10 + t, SHARED_LEN);

    let mut expected = device::build(gpu, builder.clone(), layout).unwrap();
    let flat_params = device::upload(gpu, &values);
    let flat_grads = storage(gpu, layout.buffer_size_of(dtype).next_multiple_of(4), usage);
    let mut stats = Vec::new();
    for t in 0..3 {
        let (shared, mut flat) = (shared(t), vec![0.0; layout.len()]);
        for (tensor, (.., first)) in layout.tensors().iter().zip(TENSORS) {
            flat[tensor.range()].copy_from_slice(&shared[first..first + tensor.range().len()]);
        }
        gpu.queue.write_buffer(&flat_grads, 0, &bytes_of(&flat, dtype));
        let mut recorded = encoder(gpu);
        let grads = match call {
            Call::Options => flat_slices(&flat_grads, layout, dtype),
            _ => vec![flat_grads.slice(..dtype.bytes(layout.len() as u64))],
        };
        let params = flat_slices(&flat_params, layout, Dtype::F32);
        record(call, &mut expected, &mut recorded, &params, grads).unwrap();
        stats.push(finish(gpu, &expected, recorded));
    }
    let flat = device::download(gpu, &flat_params);
    let tensors = |flat: &[f32]| -> Vec<f32> {
        layout.tensors().iter().flat_map(|tensor| flat[tensor.range()].to_vec()).collect()
    };

    let grad_bytes = dtype.bytes(SHARED_LEN as u64).next_multiple_of(4);
    let param_bytes = 4 * tensors(&values).len() as u64;
    // In one buffer side by side, so that bindings would overlap, with either first; in a buffer each, parameters as in the
    // flat space.
    for (params_at, grads_at) in [(grad_bytes, Some(0)), (0, Some(param_bytes)), (0, None)] {
        let what = format!("{name}, {dtype:?}, parameters at {params_at}, gradients at {grads_at:?}");
        let page = storage(gpu, 4 * layout.len() as u64 + grad_bytes, usage);
        let (grads, grads_at) = match grads_at {
            Some(at) => (page.clone(), at),
            None => (storage(gpu, grad_bytes, usage), 0),
        };
        let mut end = params_at;
        let param = |tensor: &TensorInfo| {
            let start = if grads == page { end } else { 4 * tensor.range().start as u64 };
            end = start + 4 * tensor.range().len() as u64;
            gpu.queue.write_buffer(&page, start, bytemuck::cast_slice(&values[tensor.range()]));
            page.slice(start..end)
        };
        let params: Vec<_> = layout.tensors().iter().map(param).collect();
        let mut optimizer = device::build(gpu, builder.clone(), layout).unwrap();
        for (t, stats) in stats.iter().enumerate() {
            gpu.queue.write_buffer(&grads, grads_at, &bytes_of(&shared(t as u64), dtype));
            let place = |(tensor, (.., first)): (&TensorInfo, (_, _, usize))| {
                let [start, end] = [first, first + tensor.range().len()].map(|at| grads_at + dtype.bytes(at as u64));
                grads.slice(start..end)
            };
            let slices = layout.tensors().iter().zip(TENSORS).map(place).collect();
            let mut recorded = encoder(gpu);
            record(call, &mut optimizer, &mut recorded, &params, slices).unwrap();
            assert_eq!(finish(gpu, &optimizer, recorded), *stats, "{what}");
        }
        let updated = params.iter().flat_map(|slice| device::download_slice(gpu, *slice)).collect::<Vec<_>>();
        assert_same_bits(&updated, &tensors(&flat), &what);
        assert_ne!(updated, tensors(&values), "{what}");
        for name in expected.state_names() {
            assert_same_bits(&state(gpu, &optimizer, name), &state(gpu, &expected, name), &format!("{what}, {name}"));
        }
    }
}

#[test]
fn each_tensor_has_its_gradient() {
    for layout in [layout(Layout::builder()), layout(Layout::builder().packed())] {
        let is_multiple = |of| layout.tensors().iter().all(|tensor| tensor.range().start.is_multiple_of(of));
        for (name, builder, call) in &builders() {
            for dtype in [Dtype::F32, Dtype::Bf16] {
                // Copies of bf16 need slices at even elements, options at multiples of four.
                let serves = match call {
                    Call::Options => is_multiple(4),
                    _ => dtype == Dtype::F32 || *name == "one pass" || is_multiple(2),
                };
                if serves {
                    compare(&layout, (name, builder, *call), dtype);
                }
            }
        }
    }
}

/// Ranks write the mean over the gradients.
#[test]
fn ranks_refuse_gradients_that_overlap() {
    let (gpu, layout) =
        (device::gpu(), Layout::builder().tensor("a", &[8]).tensor("b", &[8]).packed().build().unwrap());
    let communicator = ThreadCommunicator::group(1).remove(0);
    let builder = Optimizer::builder(AdamW::default());
    let mut optimizer = Sharded::build_shared(builder, device::pipelines(), &gpu.queue, &layout, communicator).unwrap();
    let (params, grads) = (device::upload(gpu, &[1.0; 16]), device::upload(gpu, &[1.0; 16]));
    let error = optimizer.step(&params, &[grads.slice(..32), grads.slice(..32)]).unwrap_err();
    let DistributedError::Optimizer(Error::OverlappingSlices { what: "grads", first: 0, second: 1 }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(device::download(gpu, &params), [1.0; 16]);
}
