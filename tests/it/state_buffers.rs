//! States in buffers of the program.

use wgpu_optim::checkpoint::LoadOptions;
use wgpu_optim::wgpu::{Buffer, BufferSlice, BufferUsages, CommandEncoder};
use wgpu_optim::{
    Adafactor, AdamW, Clip, Ema, Error, Gpu, GroupOptions, Lamb, Layout, LayoutBuilder, Optimizer, OptimizerBuilder,
    Rprop, Sam, Sgd, StateSize,
};

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{block_on, device, encoder, finish, state, storage};

const ALL: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);
const CANARY: u8 = 0xf3;

fn alignment(gpu: &Gpu) -> u64 {
    gpu.device.limits().min_storage_buffer_offset_alignment.into()
}

fn layout(builder: LayoutBuilder) -> Layout {
    let tensors: [(&str, &[usize]); 6] =
        [("w", &[129, 67]), ("b", &[2]), ("v", &[8_195]), ("one", &[1]), ("still", &[3]), ("x", &[77])];
    let tensor = |layout: LayoutBuilder, (name, shape): (&str, &[usize])| layout.tensor(name, shape).group(name);
    tensors.into_iter().fold(builder, tensor).build().unwrap()
}

/// The slices of states in a pool.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// One slice, padding included.
    One,
    /// A slice per tensor, of its own length.
    PerTensor,
}

/// One buffer with parameters, gradients and states, and canaries between them.
struct Pool {
    buffer: Buffer,
    len: usize,
    /// First byte and end of the slices of each stream: parameters, gradients, states.
    streams: Vec<Vec<(u64, u64)>>,
    names: Vec<String>,
    /// First byte of the copy that another kernel makes of the first slice of a state.
    copy: u64,
}

impl Pool {
    /// Parameters and gradients lie `before` bytes behind the unit of the state before them, in units of four bytes.
    fn new(gpu: &Gpu, layout: &Layout, sizes: &[StateSize], cut: Cut, before: u64) -> Self {
        let tensors: Vec<_> = layout.tensors().iter().map(|tensor| 4 * tensor.range().len() as u64).collect();
        let whole = vec![4 * layout.len() as u64];
        let mut streams = vec![Vec::new(); 2 + sizes.len()];
        let (mut at, unit) = (before, alignment(gpu));
        // Streams by turns, tensor by tensor.
        for piece in if cut == Cut::One { whole } else { tensors } {
            for (number, stream) in streams.iter_mut().enumerate() {
                if number >= 2 {
                    at = at.next_multiple_of(unit);
                }
                stream.push((at, at + piece));
                at += piece;
                if number >= 2 {
                    at = at.next_multiple_of(unit);
                }
            }
            at += before;
        }
        let copy = at.next_multiple_of(unit);
        let first = streams.last().map_or(0, |slices| slices[0].1 - slices[0].0);
        let buffer = storage(gpu, copy + first + 20, ALL);
        let names = sizes.iter().map(|state| state.name.clone()).collect();
        let pool = Self { buffer, len: layout.len(), streams, names, copy };
        gpu.queue.write_buffer(&pool.buffer, 0, &vec![CANARY; pool.buffer.size() as usize]);
        pool
    }

    fn slices(&self, stream: usize) -> Vec<BufferSlice<'_>> {
        self.streams[stream].iter().map(|&(start, end)| self.buffer.slice(start..end)).collect()
    }

    fn give(&self, builder: OptimizerBuilder) -> OptimizerBuilder {
        let states = self.names.iter().enumerate();
        states.fold(builder, |builder, (i, name)| builder.state_buffers(name, &self.slices(2 + i)))
    }

    /// The elements of a stream in the flat space that its slices hold.
    fn write(&self, gpu: &Gpu, layout: &Layout, stream: usize, values: &[f32]) {
        let mut ranges: Vec<_> = layout.tensors().iter().map(wgpu_optim::TensorInfo::range).collect();
        if self.streams[stream].len() == 1 {
            ranges.clear();
            ranges.push(0..self.len);
        }
        for (&(start, _), range) in self.streams[stream].iter().zip(ranges) {
            gpu.queue.write_buffer(&self.buffer, start, bytemuck::cast_slice(&values[range]));
        }
    }

    /// Checks every byte that belongs to no stream.
    fn check_canaries(&self, gpu: &Gpu, what: &str) {
        let words = device::download(gpu, &self.buffer);
        let mut bytes: Vec<u8> = bytemuck::cast_slice(&words).to_vec();
        let first = self.streams[self.streams.len() - 1][0];
        let copy = (self.copy, self.copy + first.1 - first.0);
        for &(start, end) in self.streams.iter().flatten().chain([&copy]) {
            bytes[start as usize..end as usize].fill(CANARY);
        }
        assert!(bytes.iter().all(|byte| *byte == CANARY), "{what}: bytes beside the streams have changed");
    }
}

/// The elements of tensors alone.
fn without_padding(layout: &Layout, values: &[f32]) -> Vec<f32> {
    layout.tensors().iter().flat_map(|tensor| values[tensor.range()].iter().copied()).collect()
}

/// The values of tensors, whether the slices hold padding or not.
fn of_tensors(layout: &Layout, values: &[f32]) -> Vec<f32> {
    if values.len() >= layout.len() { without_padding(layout, values) } else { values.to_vec() }
}

fn builders() -> Vec<(&'static str, OptimizerBuilder)> {
    let builders = [
        ("one pass", Optimizer::builder(AdamW::default().with_amsgrad(true))),
        ("clip", Optimizer::builder(Sgd::default().with_momentum(0.9)).clip(Clip::global_norm(1.0))),
        ("sums", Optimizer::builder(Lamb::default()).average(Ema::new(0.9))),
        ("factors", Optimizer::builder(Adafactor::torch().with_min_dim_size_to_factor(2).with_lr(0.01))),
        ("initial value", Optimizer::builder(Rprop::default())),
    ];
    let options = |builder: OptimizerBuilder| {
        builder.group("still", GroupOptions::default().frozen()).group("v", GroupOptions::default().with_lr_scale(0.5))
    };
    builders.map(|(name, builder)| (name, options(builder))).into()
}

/// 50 steps over one pool of parameters, gradients and states have the bits of steps with buffers of their own.
#[test]
fn states_share_a_pool_with_parameters_and_gradients() {
    let gpu = device::gpu();
    for (layout, cut, before) in [
        (layout(Layout::builder()), Cut::One, 4),
        (layout(Layout::builder()), Cut::PerTensor, 20),
        (layout(Layout::builder().packed()), Cut::PerTensor, 4),
    ] {
        for (name, builder) in builders() {
            let what = format!("{name}, {cut:?}, {before}");
            let sizes = builder.state_sizes(&layout).unwrap();
            let pool = Pool::new(gpu, &layout, &sizes, cut, before);
            let values = random(1, layout.len());
            pool.write(gpu, &layout, 0, &values);
            let mut given = device::build(gpu, pool.give(builder.clone()), &layout).unwrap();
            let mut own = device::build(gpu, builder, &layout).unwrap();
            let (params, grads) = (device::upload(gpu, &values), device::upload(gpu, &values));
            for t in 0..50 {
                let values = random(10 + t, layout.len());
                pool.write(gpu, &layout, 1, &values);
                gpu.queue.write_buffer(&grads, 0, bytemuck::cast_slice(&values));
                let mut recorded = encoder(gpu);
                let (first, end) = pool.streams[pool.streams.len() - 1][0];
                let before = (t == 49).then(|| device::download_slice(gpu, pool.buffer.slice(first..end)));
                if before.is_some() {
                    // Somebody else reads a state from the same page, in the same submission.
                    let words = (first / 4, pool.copy / 4, (end - first) / 4);
                    crate::pool::scale(gpu, &mut recorded, &pool.buffer, words, 1.0);
                }
                own.step(&mut recorded, &params, &grads).unwrap();
                given.step(&mut recorded, &pool.slices(0), &pool.slices(1)).unwrap();
                let stats = given.stats(&mut recorded);
                assert_eq!(finish(gpu, &own, recorded), pollster::block_on(stats).unwrap(), "{what}");
                if let Some(before) = before {
                    let copy = device::download_slice(gpu, pool.buffer.slice(pool.copy..pool.copy + end - first));
                    assert_same_bits(&copy, &before, &what);
                }
            }
            let updated: Vec<f32> =
                pool.slices(0).into_iter().flat_map(|slice| device::download_slice(gpu, slice)).collect();
            let expected = of_tensors(&layout, &device::download(gpu, &params));
            assert_same_bits(&of_tensors(&layout, &updated), &expected, &what);
            for name in own.state_names() {
                let [given, own] = [&given, &own].map(|optimizer| state(gpu, optimizer, name));
                if sizes.iter().any(|state| state.name == name) {
                    assert_same_bits(&of_tensors(&layout, &given), &of_tensors(&layout, &own), &what);
                } else {
                    assert_same_bits(&given, &own, &what);
                }
            }
            pool.check_canaries(gpu, &what);
        }
    }
}

/// The states that are told are all states of the optimizer, and their bytes and usages suffice.
#[test]
fn sizes_are_those_of_the_buffers() {
    let gpu = device::gpu();
    let layout = layout(Layout::builder());
    for (name, builder) in builders() {
        let sizes = builder.state_sizes(&layout).unwrap();
        let buffers: Vec<_> = sizes.iter().map(|state| storage(gpu, state.bytes, state.usage)).collect();
        let own = device::build(gpu, builder.clone(), &layout).unwrap();
        for state in &sizes {
            let bytes: u64 = own.state(&state.name).unwrap().iter().map(BufferSlice::size).sum();
            assert_eq!(bytes, state.bytes, "{name}, {}", state.name);
        }
        let given = sizes.iter().zip(&buffers);
        let builder = given.fold(builder, |builder, (state, buffer)| builder.state_buffers(&state.name, buffer));
        let given = device::build(gpu, builder, &layout).unwrap();
        for (state, buffer) in sizes.iter().zip(&buffers) {
            let slices = given.state(&state.name).unwrap();
            assert!(slices.iter().all(|slice| slice.buffer() == buffer), "{name}, {}", state.name);
        }
    }
}

fn record(gpu: &Gpu, call: impl FnOnce(&mut CommandEncoder)) {
    let mut recorded = encoder(gpu);
    call(&mut recorded);
    gpu.queue.submit([recorded.finish()]);
}

/// Snapshots and checkpoints move the states alone: another consumer of the pool keeps its bytes.
#[test]
fn snapshots_and_checkpoints_leave_the_rest_of_the_pool() {
    let gpu = device::gpu();
    let builder = Optimizer::builder(AdamW::default()).average(Ema::new(0.9)).sam(Sam::new(0.05));
    for cut in [Cut::One, Cut::PerTensor] {
        let layout = layout(Layout::builder());
        let pool = Pool::new(gpu, &layout, &builder.state_sizes(&layout).unwrap(), cut, 4);
        pool.write(gpu, &layout, 0, &random(1, layout.len()));
        pool.write(gpu, &layout, 1, &random(2, layout.len()));
        let mut optimizer = device::build(gpu, pool.give(builder.clone()), &layout).unwrap();
        let (params, grads) = (pool.slices(0), pool.slices(1));
        let bytes = || -> Vec<u32> {
            let words = device::download(gpu, &pool.buffer);
            words.iter().map(|word| word.to_bits()).collect()
        };
        let steps = |optimizer: &mut Optimizer| {
            record(gpu, |encoder| {
                optimizer.perturb(encoder, &params, &grads).unwrap();
                optimizer.step(encoder, &params, &grads).unwrap();
                optimizer.eval(encoder, &params).unwrap();
                optimizer.train(encoder, &params).unwrap();
                optimizer.step(encoder, &params, &grads).unwrap();
            });
        };
        steps(&mut optimizer);
        let mut snapshot = None;
        record(gpu, |encoder| snapshot = Some(optimizer.snapshot(encoder, &params).unwrap()));
        let snapshot = snapshot.unwrap();
        let mut file = Vec::new();
        let mut of_snapshot = Vec::new();
        block_on(gpu, optimizer.save_to(&mut file, Some((&params).into())));
        block_on(gpu, snapshot.save_to(&mut of_snapshot));
        assert!(file == of_snapshot, "{cut:?}: the files differ");
        steps(&mut optimizer);
        let expected = bytes();

        record(gpu, |encoder| optimizer.restore(encoder, &params, &snapshot).unwrap());
        pool.check_canaries(gpu, "restored");
        steps(&mut optimizer);
        assert!(bytes() == expected, "{cut:?}: a step after `restore`");

        let mut checkpoint = wgpu_optim::checkpoint::Checkpoint::new(std::io::Cursor::new(&file)).unwrap();
        drop(optimizer.load_from(&mut checkpoint, Some((&params).into()), &LoadOptions::default()).unwrap());
        steps(&mut optimizer);
        assert!(bytes() == expected, "{cut:?}: a step after `load`");
        pool.check_canaries(gpu, "loaded");
    }
}

fn refused(gpu: &Gpu, layout: &Layout, name: &str, slices: &[BufferSlice<'_>]) -> Error {
    let builder = Optimizer::builder(AdamW::default()).state_buffers(name, slices);
    builder.build(&gpu.device, &gpu.queue, layout).unwrap_err()
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let gpu = device::gpu();
    let (layout, unit) = (Layout::flat(100).unwrap(), alignment(gpu));
    let buffer = storage(gpu, 4_096, ALL);
    let reason = |error: Error| match error {
        Error::StateBuffers { state, source } if state == "exp_avg" => *source,
        error => panic!("{error:?}"),
    };
    let error = refused(gpu, &layout, "momentum", &[buffer.slice(..400)]);
    assert!(
        matches!(&error, Error::UnknownState { name, known, .. } if name == "momentum" && known.len() == 2),
        "{error:?}"
    );
    let error = reason(refused(gpu, &layout, "exp_avg", &[buffer.slice(..396)]));
    assert!(matches!(error, Error::LengthMismatch { expected: 100, actual: 99, .. }), "{error:?}");
    let error = reason(refused(gpu, &layout, "exp_avg", &[buffer.slice(4..404)]));
    assert!(
        matches!(error, Error::MisalignedState { slice: 0, offset: 4, alignment } if alignment == unit),
        "{error:?}"
    );
    let slices = [buffer.slice(..128), buffer.slice(64..336)];
    let error = reason(refused(gpu, &layout, "exp_avg", &slices));
    assert!(matches!(error, Error::OverlappingSlices { first: 0, second: 1, .. }), "{error:?}");
    let readable = storage(gpu, 400, BufferUsages::STORAGE);
    let error = reason(refused(gpu, &layout, "exp_avg", &[readable.slice(..)]));
    assert!(matches!(error, Error::MissingUsage { missing: BufferUsages::COPY_SRC, .. }), "{error:?}");

    let slice = buffer.slice(..400);
    let builder =
        Optimizer::builder(AdamW::default()).state_buffers("exp_avg", slice).state_buffers("exp_avg_sq", slice);
    let error = builder.build(&gpu.device, &gpu.queue, &layout).unwrap_err();
    assert!(
        matches!(&error, Error::SharedState { state, other, .. } if state == "exp_avg" && other.contains("exp_avg_sq")),
        "{error:?}"
    );
}

/// Parameters and gradients keep clear of the units of a state, wherever they are read from.
#[test]
fn parameters_and_gradients_beside_a_state_are_refused() {
    let gpu = device::gpu();
    let (layout, unit) = (Layout::flat(65).unwrap(), alignment(gpu));
    let pool = storage(gpu, 8_192, ALL);
    let others = device::upload(gpu, &random(1, 65));
    let builder = Optimizer::builder(Sgd::default().with_momentum(0.9)).accumulate_gradients();
    let builder = builder.state_buffers("momentum_buffer", pool.slice(1_024..1_284));
    for gathers in [false, true] {
        let builder = if gathers { builder.clone().gather_gradients() } else { builder.clone() };
        let mut optimizer = device::build(gpu, builder, &layout).unwrap();
        let mut recorded = encoder(gpu);
        // The last byte before the state, its first, and the end of its last unit.
        let end = 1_284_u64.next_multiple_of(unit);
        for (start, fits) in [(764, true), (768, false), (1_024, false), (1_284, false), (end - 4, false), (end, true)]
        {
            let slice = pool.slice(start..start + 260);
            let results = [
                ("params", optimizer.step(&mut recorded, slice, &others)),
                ("grads", optimizer.step(&mut recorded, &others, slice)),
                ("grads", optimizer.accumulate(&mut recorded, slice, 1.0)),
            ];
            for (what, result) in results {
                match result {
                    Ok(()) if fits => {}
                    Err(Error::SharedState { state, other, .. }) if !fits => {
                        assert_eq!((&*state, &*other), ("momentum_buffer", what));
                    }
                    result => panic!("{what} from byte {start}: {result:?}"),
                }
            }
        }
        gpu.queue.submit([recorded.finish()]);
    }
}
