//! Places of parameters and gradients: one buffer or many, aligned or not, whole or in chunks.

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{Trainer, device, device_with, encoder, finish, state, storage};
use wgpu_optim::wgpu::{Buffer, BufferSlice, BufferUsages};
use wgpu_optim::{
    Adam, AdamW, Clip, Error, Gpu, Lamb, Layout, Lion, Optimizer, OptimizerBuilder, Sgd, Stats, TensorInfo,
};

fn builders() -> [OptimizerBuilder; 2] {
    let single_pass = Optimizer::builder(AdamW::default().with_lr(0.01).with_amsgrad(true));
    [single_pass.clone(), single_pass.clip(Clip::global_norm(1.0))]
}

/// Three steps in one flat buffer each: the parameters, and what each step says.
fn flat(gpu: &Gpu, builder: &OptimizerBuilder, len: usize) -> (Vec<f32>, Vec<Stats>) {
    let layout = Layout::flat(len).unwrap();
    let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &random(1, len));
    let stats = (0..3).map(|t| trainer.step(&random(10 + t, len))).collect();
    (trainer.params(), stats)
}

/// A buffer per tensor, each of the tensor's own length, in a layout that pads: as frameworks hold parameters.
#[test]
fn a_buffer_per_tensor_needs_no_padding() {
    let gpu = device::gpu();
    let shapes: [&[usize]; 5] = [&[129, 67], &[1], &[8_195], &[64], &[77]];
    let layout =
        shapes.iter().enumerate().fold(Layout::builder(), |layout, (i, shape)| layout.tensor(i.to_string(), shape));
    let layout = layout.build().unwrap();
    let ranges: Vec<_> = layout.tensors().iter().map(TensorInfo::range).collect();
    assert!(ranges.iter().map(ExactSizeIterator::len).sum::<usize>() < layout.len(), "the layout pads");
    let lamb = Optimizer::builder(Lamb::default()).clip(Clip::global_norm(0.5));
    for builder in builders().into_iter().chain([lamb]) {
        // Padding holds 0.
        let flat = |seed: u64| {
            let (values, mut flat) = (random(seed, layout.len()), vec![0.0; layout.len()]);
            for range in &ranges {
                flat[range.clone()].copy_from_slice(&values[range.clone()]);
            }
            flat
        };
        let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &flat(1));
        let mut optimizer = device::build(gpu, builder, &layout).unwrap();
        let per_tensor = |flat: &[f32]| -> Vec<Buffer> {
            ranges.iter().map(|range| device::upload(gpu, &flat[range.clone()])).collect()
        };
        let params = per_tensor(&flat(1));
        for t in 0..3 {
            let grads = per_tensor(&flat(10 + t));
            let [params, grads] = [&params, &grads].map(|all| all.iter().map(|one| one.slice(..)).collect::<Vec<_>>());
            let mut encoder = encoder(gpu);
            optimizer.step(&mut encoder, &params, &grads).unwrap();
            assert_eq!(finish(gpu, &optimizer, encoder), trainer.step(&flat(10 + t)));
        }
        let expected = trainer.params();
        for (buffer, range) in params.iter().zip(&ranges) {
            assert_same_bits(&device::download(gpu, buffer), &expected[range.clone()], &format!("{range:?}"));
        }
    }
    // One slice too few: the error says what a list may hold.
    let params = storage(gpu, 4 * layout.len() as u64, BufferUsages::STORAGE);
    let short = [params.slice(..4 * 8_643)];
    let mut optimizer = device::build(gpu, Optimizer::builder(Sgd::default()), &layout).unwrap();
    let refused = optimizer.step(&mut encoder(gpu), &short, &short).unwrap_err();
    assert!(matches!(refused, Error::LengthMismatch { .. }), "{refused}");
    let message = refused.to_string();
    assert!(message.contains("packed") && message.contains("per tensor"), "{message}");
}

/// Chunks of 8,192 elements on a device of small bindings against one chunk on a device of large ones.
#[test]
fn chunking_does_not_change_a_single_bit() {
    let small = device_with(|limits| {
        limits.max_storage_buffer_binding_size = 40 << 10;
        limits.max_buffer_size = 200 << 10;
        limits.max_compute_workgroups_per_dimension = 3;
    });
    // The table of groups has no word per block there.
    let padded = Layout::builder().tensor("a", &[1_000_001]).tensor("b", &[1]).build().unwrap();
    assert!(Optimizer::builder(Sgd::default()).build(&small.device, &small.queue, &padded).is_ok());
    for len in [8192, 8193, 16_383, 3 * 8192, 40_001] {
        for builder in builders() {
            let (params, stats) = flat(&small, &builder, len);
            let (expected, expected_stats) = flat(device::gpu(), &builder, len);
            assert_same_bits(&params, &expected, &format!("{len} elements"));
            assert_eq!(stats, expected_stats);
        }
    }
}

/// Grids of two dimensions, with workgroups to spare, in every kernel and for every rule.
#[test]
fn grids_of_two_dimensions_reach_every_element_once() {
    let small = device_with(|limits| limits.max_compute_workgroups_per_dimension = 20);
    let rules = [
        Optimizer::builder(Sgd::default()),
        Optimizer::builder(Sgd::default().with_momentum(0.9)),
        Optimizer::builder(Adam::default().with_amsgrad(true)),
        Optimizer::builder(AdamW::default()),
        Optimizer::builder(Lion::default()),
    ];
    for rule in rules {
        for builder in [rule.clone(), rule.clip(Clip::global_norm(1.0))] {
            // `update` has rows of 20 · 1,024 elements, `norm` of 20 · 8,192.
            for len in [20 * 1024 + 1, 8192 * 21, 8192 * 21 + 1, 8192 * 39 + 5] {
                let (params, stats) = flat(&small, &builder, len);
                let (expected, expected_stats) = flat(device::gpu(), &builder, len);
                assert_same_bits(&params, &expected, &format!("{len} elements"));
                assert_eq!(stats, expected_stats);
            }
        }
    }
}

/// A model larger than any buffer: parameters, gradients and states in several each, cut at different places.
#[test]
fn models_beyond_the_largest_buffer_span_several() {
    const LEN: usize = 70_001;
    let small = device_with(|limits| {
        limits.max_buffer_size = 100 << 10;
        limits.max_storage_buffer_binding_size = 64 << 10;
    });
    let layout = Layout::flat(LEN).unwrap();
    let cut = |values: &[f32]| -> Vec<Buffer> {
        [0..20_001, 20_001..45_000, 45_000..LEN].map(|range| device::upload(&small, &values[range])).to_vec()
    };
    for builder in builders() {
        let mut optimizer = builder.clone().build(&small.device, &small.queue, &layout).unwrap();
        assert!(optimizer.state("exp_avg").unwrap().len() > 1);
        let mut whole = Trainer::new(device::gpu(), builder, &layout, &random(1, LEN));
        let params = cut(&random(1, LEN));
        for t in 0..3 {
            let grads = cut(&random(10 + t, LEN));
            let param_slices: Vec<_> = params.iter().map(|buffer| buffer.slice(..)).collect();
            let grad_slices: Vec<_> = grads.iter().map(|buffer| buffer.slice(..)).collect();
            let mut recorded = encoder(&small);
            optimizer.step(&mut recorded, &param_slices, &grad_slices).unwrap();
            assert_eq!(finish(&small, &optimizer, recorded), whole.step(&random(10 + t, LEN)));
        }
        let updated: Vec<f32> = params.iter().flat_map(|buffer| device::download(&small, buffer)).collect();
        assert_same_bits(&updated, &whole.params(), "parameters");
        assert_same_bits(&state(&small, &optimizer, "exp_avg_sq"), &whole.state("exp_avg_sq"), "exp_avg_sq");
    }
}

/// Many cut blocks need more scratch memory than one buffer may have.
#[test]
fn cut_blocks_fit_small_buffers() {
    const LEN: usize = 40 * 5000;
    let small = device_with(|limits| {
        limits.max_buffer_size = 256 << 10;
        limits.max_storage_buffer_binding_size = 128 << 10;
    });
    let builder = builders()[1].clone();
    let mut optimizer = builder.clone().build(&small.device, &small.queue, &Layout::flat(LEN).unwrap()).unwrap();
    let mut whole = Trainer::new(device::gpu(), builder, &Layout::flat(LEN).unwrap(), &random(1, LEN));
    let cut = |values: &[f32]| values.chunks(5000).map(|part| device::upload(&small, part)).collect::<Vec<_>>();
    let (params, grads) = (cut(&random(1, LEN)), cut(&random(2, LEN)));
    let param_slices: Vec<_> = params.iter().map(|buffer| buffer.slice(..)).collect();
    let grad_slices: Vec<_> = grads.iter().map(|buffer| buffer.slice(..)).collect();
    let mut recorded = encoder(&small);
    optimizer.step(&mut recorded, &param_slices, &grad_slices).unwrap();
    assert_eq!(finish(&small, &optimizer, recorded), whole.step(&random(2, LEN)));
    let updated: Vec<f32> = params.iter().flat_map(|buffer| device::download(&small, buffer)).collect();
    assert_same_bits(&updated, &whole.params(), "parameters");
}

/// One more element than a binding holds, and the first element past it is the bad one.
#[test]
fn the_first_element_past_a_binding_is_seen() {
    let small = device_with(|limits| limits.max_storage_buffer_binding_size = 64 << 10);
    let len = (64 << 10) / 4 + 1;
    for builder in builders() {
        let mut trainer = Trainer::new(&small, builder, &Layout::flat(len).unwrap(), &random(1, len));
        let mut grads = random(2, len);
        grads[len - 1] = f32::NAN;
        assert_eq!(trainer.step(&grads).first_nonfinite, Some(len as u64 - 1));
    }
}

/// Slices of `buffers`, each with room before and behind it that must stay as it is.
struct Guarded {
    buffers: Vec<Buffer>,
    ranges: Vec<(u64, u64)>,
}

const CANARY: f32 = -7.25e33;

impl Guarded {
    /// `cuts` are the lengths of the pieces, `before` the elements ahead of the first of them.
    fn new(gpu: &Gpu, values: &[f32], cuts: &[usize], before: usize) -> Self {
        let mut rest = values;
        let (mut buffers, mut ranges) = (Vec::new(), Vec::new());
        for (i, &len) in cuts.iter().enumerate() {
            let (now, later) = rest.split_at(len);
            rest = later;
            // Alternately a tight end and one with room behind it.
            let behind = if i % 2 == 0 { 0 } else { 5 };
            let ahead = before + i;
            let mut contents = vec![CANARY; ahead + len + behind];
            contents[ahead..ahead + len].copy_from_slice(now);
            buffers.push(device::upload(gpu, &contents));
            ranges.push((4 * ahead as u64, 4 * (ahead + len) as u64));
        }
        Self { buffers, ranges }
    }

    fn slices(&self) -> Vec<BufferSlice<'_>> {
        self.buffers.iter().zip(&self.ranges).map(|(buffer, &(start, end))| buffer.slice(start..end)).collect()
    }

    /// The values, after a look at every word around them.
    fn values(&self, gpu: &Gpu) -> Vec<f32> {
        let mut values = Vec::new();
        for (buffer, &(start, end)) in self.buffers.iter().zip(&self.ranges) {
            let contents = device::download(gpu, buffer);
            let (start, end) = (start as usize / 4, end as usize / 4);
            let around = contents[..start].iter().chain(&contents[end..]);
            assert!(around.map(|word| word.to_bits()).all(|bits| bits == CANARY.to_bits()), "a canary was overwritten");
            values.extend(&contents[start..end]);
        }
        values
    }
}

/// However parameters and gradients are cut into buffers, offset and aligned: the bits of one flat buffer, and
/// nothing around them is touched.
#[test]
fn slices_of_many_buffers_act_as_one_flat_buffer() {
    const LEN: usize = 30_000;
    let gpu = device::gpu();
    let cuts: [(&[usize], usize); 6] = [
        (&[LEN], 0),
        (&[LEN], 64),
        (&[8192, 8192, 13_616], 4),
        (&[785, 10, 1, 2, 3, 12_000, 17_199], 1),
        (&[16_385, 13_615], 2),
        (&[1, 29_998, 1], 3),
    ];
    for builder in builders() {
        let (expected, expected_stats) = flat(gpu, &builder, LEN);
        for (param_cuts, param_before) in cuts {
            for (grad_cuts, grad_before) in cuts {
                let mut optimizer = device::build(gpu, builder.clone(), &Layout::flat(LEN).unwrap()).unwrap();
                let params = Guarded::new(gpu, &random(1, LEN), param_cuts, param_before);
                for t in 0..3 {
                    let grads = Guarded::new(gpu, &random(10 + t, LEN), grad_cuts, grad_before);
                    let mut recorded = encoder(gpu);
                    optimizer.step(&mut recorded, &params.slices(), &grads.slices()).unwrap();
                    assert_eq!(finish(gpu, &optimizer, recorded), expected_stats[t as usize]);
                    assert_same_bits(&grads.values(gpu), &random(10 + t, LEN), "gradients are only read");
                }
                assert_same_bits(&params.values(gpu), &expected, &format!("{param_cuts:?} and {grad_cuts:?}"));
            }
        }
    }
}

/// A buffer of exactly four bytes per element, whatever that is modulo 16, between canaries of its own buffer.
#[test]
fn tails_end_where_the_elements_end() {
    let gpu = device::gpu();
    for builder in builders() {
        for len in [1, 2, 3, 4, 5, 6, 7, 63, 255, 257, 1023, 8191, 8193] {
            let (expected, _) = flat(gpu, &builder, len);
            for behind in [0, 1, 2, 3, 4, 64] {
                let mut contents = random(1, len);
                contents.resize(len + behind, CANARY);
                let params = device::upload(gpu, &contents);
                let mut optimizer = device::build(gpu, builder.clone(), &Layout::flat(len).unwrap()).unwrap();
                for t in 0..3 {
                    let grads = device::upload(gpu, &random(10 + t, len));
                    let mut recorded = encoder(gpu);
                    let slice = params.slice(..4 * len as u64);
                    optimizer.step(&mut recorded, slice, &grads).unwrap();
                    finish(gpu, &optimizer, recorded);
                }
                let contents = device::download(gpu, &params);
                assert_same_bits(&contents[..len], &expected, &format!("{len} elements, {behind} behind"));
                assert!(contents[len..].iter().all(|word| word.to_bits() == CANARY.to_bits()), "{len}, {behind}");
            }
        }
    }
}

/// A large chunk whose last elements do not fill a quad is cut in two: both parts, and the norm over them.
#[test]
fn long_odd_buffers_end_in_a_chunk_of_their_own() {
    let gpu = device::gpu();
    for builder in builders() {
        for len in [(1 << 16) + 1, 8192 * 9 + 4099, 8192 * 20 + 3] {
            let (expected, expected_stats) = flat(gpu, &builder, len);
            let layout = Layout::flat(len).unwrap();
            let mut optimizer = device::build(gpu, builder.clone(), &layout).unwrap();
            // Whole buffers of `buffer_size` bytes are accessed four elements at a time throughout.
            let mut padded = random(1, len);
            padded.resize(layout.buffer_size() as usize / 4, CANARY);
            let params = device::upload(gpu, &padded);
            for t in 0..3 {
                let mut grads = random(10 + t, len);
                grads.resize(padded.len(), f32::NAN);
                let grads = device::upload(gpu, &grads);
                let mut recorded = encoder(gpu);
                optimizer.step(&mut recorded, &params, &grads).unwrap();
                assert_eq!(finish(gpu, &optimizer, recorded), expected_stats[t as usize]);
            }
            let params = device::download(gpu, &params);
            assert_same_bits(&params[..len], &expected, &format!("{len} elements"));
            assert!(params[len..].iter().all(|word| word.to_bits() == CANARY.to_bits()));
        }
    }
}

#[test]
fn a_buffer_of_the_layouts_size_is_taken_whole() {
    let gpu = device::gpu();
    let layout = Layout::flat(7).unwrap();
    let mut optimizer = device::build(gpu, Optimizer::builder(AdamW::default()), &layout).unwrap();
    let params = storage(gpu, layout.buffer_size(), BufferUsages::STORAGE | BufferUsages::COPY_SRC);
    let grads = storage(gpu, layout.buffer_size(), BufferUsages::STORAGE);
    gpu.queue.write_buffer(&grads, 0, bytemuck::cast_slice(&[1f32; 8]));
    let mut recorded = encoder(gpu);
    optimizer.step(&mut recorded, &params, &grads).unwrap();
    finish(gpu, &optimizer, recorded);
    let params = device::download(gpu, &params);
    assert!(params[..7].iter().all(|param| *param < 0.0));
    assert_eq!(params[7], 0.0, "the rounding-up belongs to nobody");
}

/// Two sets of buffers in turn, a third, and back: bindings are made for what was given, not for what was seen before.
#[test]
fn buffers_may_change_from_step_to_step() {
    let gpu = device::gpu();
    let layout = Layout::flat(100).unwrap();
    let mut optimizer = device::build(gpu, Optimizer::builder(AdamW::default()), &layout).unwrap();
    let sets: Vec<_> =
        (0..3).map(|i| (device::upload(gpu, &random(i, 100)), device::upload(gpu, &random(9, 100)))).collect();
    for i in [0, 1, 0, 2, 1, 0] {
        let before = device::download(gpu, &sets[i].0);
        let others: Vec<_> =
            (0..3).filter(|&other| other != i).map(|other| device::download(gpu, &sets[other].0)).collect();
        let mut recorded = encoder(gpu);
        optimizer.step(&mut recorded, &sets[i].0, &sets[i].1).unwrap();
        finish(gpu, &optimizer, recorded);
        assert_ne!(device::download(gpu, &sets[i].0), before);
        let after: Vec<_> =
            (0..3).filter(|&other| other != i).map(|other| device::download(gpu, &sets[other].0)).collect();
        assert_eq!(after, others);
    }
}
