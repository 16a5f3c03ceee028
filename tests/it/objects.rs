//! A step over known buffers creates no wgpu object; `prepare` compiles before it.

use wgpu_optim::wgpu::{self, Buffer, BufferUsages, CommandEncoder};
use wgpu_optim::{AdamW, Clip, Dtype, Error, Gpu, Layout, Optimizer, Sam, Sophia};

use crate::common::{device, device_with, encoder, finish, storage};

const LEN: usize = 9_001;

/// Objects of the device that exist: buffers, bind groups, bind group layouts, pipelines, shader modules.
fn objects(gpu: &Gpu) -> [isize; 5] {
    let counters = gpu.device.get_internal_counters().hal;
    [
        counters.buffers.read(),
        counters.bind_groups.read(),
        counters.bind_group_layouts.read(),
        counters.compute_pipelines.read(),
        counters.shader_modules.read(),
    ]
}

fn layout() -> Layout {
    Layout::builder().tensor("p", &[LEN]).packed().build().unwrap()
}

fn buffers(gpu: &Gpu, count: usize) -> Vec<Buffer> {
    (0..count).map(|_| device::upload(gpu, &vec![0.5; LEN])).collect()
}

/// A device of its own: others' objects do not count.
fn gpu() -> Gpu {
    device_with(|_| {})
}

/// Objects after `record` minus those before. The encoder holds all that it used: nothing is freed in between.
fn created(gpu: &Gpu, record: impl FnOnce(&mut CommandEncoder)) -> [isize; 5] {
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let (before, mut encoder) = (objects(gpu), encoder(gpu));
    record(&mut encoder);
    let after = objects(gpu);
    gpu.queue.submit([encoder.finish()]);
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    std::array::from_fn(|kind| after[kind] - before[kind])
}

#[test]
fn alternating_gradients_and_estimates_create_nothing_after_the_first_round() {
    let gpu = gpu();
    let builder = Optimizer::builder(Sophia::default()).clip(Clip::global_norm(1.0));
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout()).unwrap();
    let (params, grads) = (&buffers(&gpu, 1)[0], buffers(&gpu, 4));
    let mut round = |grads: [&Buffer; 4]| {
        created(&gpu, |encoder| {
            for grads in grads {
                optimizer.step(encoder, params, grads).unwrap();
                optimizer.update_hessian(encoder, params, grads).unwrap();
            }
        })
    };
    let first = round([0, 1, 2, 3].map(|i| &grads[i]));
    let (again, same) = (round([0, 1, 2, 3].map(|i| &grads[i])), round([0; 4].map(|i| &grads[i])));
    assert!(first[1] >= 4, "the first round binds each buffer: {first:?}");
    // wgpu stages the scalars of each step in a buffer of its own.
    assert_eq!((again, again[1..].to_vec()), (same, vec![0; 4]));
}

/// The number of kept sets is an option: with fewer than are used, each step binds anew.
#[test]
fn more_buffers_than_are_kept_are_bound_again() {
    let gpu = gpu();
    let bound = [1, 2].map(|sets| {
        let builder = Optimizer::builder(AdamW::default()).cached_buffer_sets(sets);
        let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout()).unwrap();
        let (params, grads) = (&buffers(&gpu, 1)[0], buffers(&gpu, 2));
        let mut round = || {
            created(&gpu, |encoder| {
                for grads in grads.iter().cycle().take(8) {
                    optimizer.step(encoder, params, grads).unwrap();
                }
            })
        };
        round();
        round()[1]
    });
    assert!(bound[0] >= 7 && bound[1] == 0, "{bound:?}");
    let refused = Optimizer::builder(AdamW::default()).cached_buffer_sets(0).build(&gpu.device, &gpu.queue, &layout());
    assert!(matches!(refused.unwrap_err(), Error::Hyperparameter { name: "cached_buffer_sets", .. }));
}

#[test]
fn perturbations_create_nothing_after_the_first() {
    let gpu = gpu();
    for sam in [Sam::new(0.05), Sam::adaptive(0.5, 0.01)] {
        let builder = Optimizer::builder(AdamW::default()).sam(sam);
        let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout()).unwrap();
        let (params, grads) = (&buffers(&gpu, 1)[0], &buffers(&gpu, 1)[0]);
        optimizer.prepare(params, grads).unwrap();
        let mut round = |pairs: usize| {
            created(&gpu, |encoder| {
                for _ in 0..pairs {
                    optimizer.perturb(encoder, params, grads).unwrap();
                    optimizer.step(encoder, params, grads).unwrap();
                }
            })
        };
        // The first step creates the buffer that holds the scalars of steps, and its bind group.
        let first = round(1);
        assert!(first[1] <= 1 && first[2..] == [0; 3], "{sam:?}: {first:?}");
        // wgpu stages the scalars of each step in a buffer of its own.
        let (one, many) = (round(1), round(4));
        assert_eq!((one[1..].to_vec(), many[1..].to_vec()), (vec![0; 4], vec![0; 4]), "{sam:?}");
        // While a step may yet be dropped, the next perturbation first restores what this step would have.
        assert_eq!(many[0], 4 * one[0] + 3, "{sam:?}");
    }
}

#[test]
fn a_new_gradient_scale_creates_nothing() {
    let gpu = gpu();
    let mut optimizer = Optimizer::builder(AdamW::default()).build(&gpu.device, &gpu.queue, &layout()).unwrap();
    let (params, grads) = (&buffers(&gpu, 1)[0], &buffers(&gpu, 1)[0]);
    let on_device = buffers(&gpu, 2);
    let mut round = |scales: [f32; 4]| {
        created(&gpu, |encoder| {
            for scale in scales {
                optimizer.set_grad_scale(scale).unwrap();
                optimizer.step(encoder, params, grads).unwrap();
                optimizer.set_grad_scale(&on_device[usize::from(scale > 2.0)]).unwrap();
                optimizer.step(encoder, params, grads).unwrap();
            }
        })
    };
    let (first, second) = (round([1.0, 2.0, 3.0, 4.0]), round([5.0, 0.5, 6.0, 7.0]));
    assert!(first[1] > 0, "{first:?}");
    assert_eq!(second[1..], [0; 4]);
    // No more buffers than without a new scale.
    let plain = created(&gpu, |encoder| {
        for _ in 0..8 {
            optimizer.step(encoder, params, grads).unwrap();
        }
    });
    assert_eq!(second, plain);
}

#[test]
fn prepare_compiles_and_binds_all_that_steps_need() {
    let gpu = gpu();
    let builder = Optimizer::builder(Sophia::default()).clip(Clip::global_norm(1.0));
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout()).unwrap();
    let (params, grads) = (&buffers(&gpu, 1)[0], &buffers(&gpu, 1)[0]);
    let prepared = created(&gpu, |_| optimizer.prepare(params, grads).unwrap());
    assert!(prepared[1] >= 4 && prepared[3] >= 3, "{prepared:?}");
    let stepped = created(&gpu, |encoder| {
        optimizer.step(encoder, params, grads).unwrap();
        optimizer.update_hessian(encoder, params, grads).unwrap();
    });
    // The first step creates the buffer that holds the scalars of steps, and its bind group.
    assert!(stepped[1] <= 1 && stepped[2..] == [0; 3], "{stepped:?}");
    let short = device::upload(&gpu, &[0.0; 4]);
    assert!(matches!(optimizer.prepare(params, &short), Err(Error::LengthMismatch { what: "grads", .. })));
}

#[test]
fn prepare_compiles_and_binds_accumulation() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let gpu = gpu();
        let builder = Optimizer::builder(AdamW::default()).accumulate_gradients().grad_dtype(dtype);
        let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout()).unwrap();
        let (params, micro_batch) =
            (&buffers(&gpu, 1)[0], storage(&gpu, layout().buffer_size_of(dtype), BufferUsages::STORAGE));
        optimizer.prepare(params, &micro_batch).unwrap();
        let stepped = created(&gpu, |encoder| {
            optimizer.accumulate(encoder, &micro_batch, 0.5).unwrap();
            optimizer.step_accumulated(encoder, params).unwrap();
        });
        assert!(stepped[1] <= 1 && stepped[2..] == [0; 3], "{dtype:?}: {stepped:?}");
    }
}

/// Statistics that nobody awaits leave nothing behind, whether their encoder is submitted or dropped.
#[test]
fn dropped_statistics_leave_no_buffers() {
    const PER_ENCODER: usize = 100;
    let gpu = gpu();
    let builder = Optimizer::builder(AdamW::default()).history(2);
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout()).unwrap();
    let (params, grads) = (&buffers(&gpu, 1)[0], &buffers(&gpu, 1)[0]);
    let mut recorded = encoder(&gpu);
    optimizer.step(&mut recorded, params, grads).unwrap();
    finish(&gpu, &optimizer, recorded);
    let round = |number: usize| {
        let mut recorded = encoder(&gpu);
        for i in 0..PER_ENCODER {
            match i % 8 {
                0 => drop(optimizer.history(&mut recorded).unwrap()),
                _ => drop(optimizer.stats(&mut recorded)),
            }
        }
        if number.is_multiple_of(2) {
            gpu.queue.submit([recorded.finish()]);
        }
        if number.is_multiple_of(10) {
            gpu.device.poll(wgpu::PollType::Poll).unwrap();
        }
    };
    let rounds = |numbers: std::ops::Range<usize>| {
        let bytes = allocation_counter::measure(|| {
            numbers.for_each(round);
            gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        });
        (objects(&gpu), bytes.bytes_current)
    };
    let (first, _) = rounds(0..2);
    // Everything that grows by use grows to its largest.
    let (warm, _) = rounds(0..100);
    let (last, bytes) = rounds(0..900);
    assert_eq!((warm, last), (first, first));
    // A leak is a pointer for each at least. How far wgpu's own lists have grown depends on the threads' timing: 120 kB seen.
    assert!(bytes < 8 * 90_000, "{bytes} bytes of the host are left by 90,000 futures");
    let stats = finish(&gpu, &optimizer, encoder(&gpu));
    assert_eq!(stats.step, 1);
}

/// Objects that a step over two tensors creates.
fn created_by_step(gpu: &Gpu, optimizer: &mut Optimizer, params: &[Buffer; 2], grads: &[Buffer; 2]) -> [isize; 5] {
    let [params, grads] = [params, grads].map(|all| all.each_ref().map(|one| one.slice(..)));
    created(gpu, |encoder| optimizer.step(encoder, &params, &grads).unwrap())
}

/// Copied gradients may lie anywhere: no step after the first makes an object.
#[test]
fn gathered_gradients_elsewhere_make_nothing() {
    let gpu = gpu();
    let layout = Layout::builder().tensor("a", &[9_001]).tensor("b", &[77]).build().unwrap();
    let tensors = || [9_001, 77].map(|len| device::upload(&gpu, &vec![0.5; len]));
    for builder in
        [Optimizer::builder(AdamW::default()), Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0))]
    {
        let builder = builder.gather_gradients().cached_buffer_sets(1);
        let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout).unwrap();
        let params = tensors();
        let sets: Vec<_> = (0..12).map(|_| tensors()).collect();
        let mut step = |grads: &[Buffer; 2]| created_by_step(&gpu, &mut optimizer, &params, grads);
        step(&sets[0]);
        let known = step(&sets[0]);
        assert_eq!(known[1..], [0; 4]);
        for grads in &sets[1..] {
            assert_eq!(step(grads), known);
        }
    }
}

/// Bytes of memory that the process has.
#[cfg(target_os = "linux")]
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Steps with ever new gradient buffers hold no more objects, and no more memory, than the first of them. Other tests would
/// change the size of their process.
#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_gradient_buffers_leave_no_memory() {
    let mut own = std::process::Command::new(std::env::current_exe().unwrap());
    own.args(["--exact", "objects::ten_thousand_gradient_buffers", "--ignored", "--nocapture"]);
    let output = own.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "runs in a process of its own"]
fn ten_thousand_gradient_buffers() {
    const LENS: [usize; 2] = [9_001, 77];
    let gpu = gpu();
    let layout = Layout::builder().tensor("a", &[LENS[0]]).tensor("b", &[LENS[1]]).build().unwrap();
    let clipped = Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0));
    for builder in [clipped.clone(), clipped.gather_gradients()] {
        let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout).unwrap();
        let params = LENS.map(|len| device::upload(&gpu, &vec![0.5; len]));
        let mut steps = |count: usize| {
            for _ in 0..count {
                let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
                let grads = LENS.map(|len| storage(&gpu, 4 * len as u64, usage));
                let [params, grads] = [&params, &grads].map(|all| all.each_ref().map(|one| one.slice(..)));
                let mut encoder = encoder(&gpu);
                optimizer.step(&mut encoder, &params, &grads).unwrap();
                gpu.queue.submit([encoder.finish()]);
                gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            }
            (objects(&gpu), resident_bytes())
        };
        let (warm, before) = steps(1_000);
        let (end, after) = steps(9_000);
        assert_eq!(end, warm);
        // A buffer that is kept counts 36 kB, a bind group some hundred bytes.
        let grown = after.saturating_sub(before);
        assert!(grown < 9_000 * 400, "{grown} bytes more");
    }
}

/// Bind groups of the first step, one per dispatch.
fn dispatches(gpu: &Gpu, layout: &Layout, params: &[wgpu::BufferSlice<'_>], grads: &[wgpu::BufferSlice<'_>]) -> isize {
    let builder = Optimizer::builder(AdamW::default());
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, layout).unwrap();
    created(gpu, |encoder| optimizer.step(encoder, params, grads).unwrap())[1]
}

/// A slice per tensor.
fn slices<'a>(buffer: &'a Buffer, layout: &Layout) -> Vec<wgpu::BufferSlice<'a>> {
    let tensors = layout.tensors().iter().map(wgpu_optim::TensorInfo::range);
    tensors.map(|range| buffer.slice(4 * range.start as u64..4 * range.end as u64)).collect()
}

/// Slices that follow each other in a buffer as in the flat space are one range.
#[test]
fn neighbors_of_one_buffer_are_one_dispatch() {
    let gpu = gpu();
    let lens = [100, 64, 1_000, 3, 129];
    let add = |layout: wgpu_optim::LayoutBuilder, (i, len): (usize, &usize)| layout.tensor(i.to_string(), &[*len]);
    let builder = || lens.iter().enumerate().fold(Layout::builder(), add);
    let (padded, packed) = (builder().build().unwrap(), builder().packed().build().unwrap());
    let [params, grads] = [(); 2].map(|()| device::upload(&gpu, &vec![0.5; padded.len()]));
    let flat = |layout: &Layout| {
        let bytes = 4 * layout.len() as u64;
        dispatches(&gpu, layout, &[params.slice(..bytes)], &[grads.slice(..bytes)])
    };
    for layout in [&padded, &packed] {
        let joined = dispatches(&gpu, layout, &slices(&params, layout), &slices(&grads, layout));
        assert_eq!(joined, flat(layout));
    }
    // Padding of the flat space, but none in the buffers.
    let apart = dispatches(&gpu, &padded, &slices(&params, &packed), &slices(&grads, &packed));
    assert_eq!(apart, flat(&padded) + 3, "the tensor of 64 elements has none");
    // One slice has moved.
    let elsewhere = device::upload(&gpu, &[0.5; 3]);
    let mut moved = slices(&grads, &padded);
    moved[3] = elsewhere.slice(..);
    assert_eq!(dispatches(&gpu, &padded, &slices(&params, &padded), &moved), flat(&padded) + 2);
}

/// Gradients at the same places of ever new buffers: nothing is planned again, and bind groups alone are made.
#[test]
fn gradients_elsewhere_make_bind_groups_alone() {
    let gpu = gpu();
    let layout = Layout::builder().tensor("a", &[9_001]).tensor("b", &[77]).build().unwrap();
    let tensor = |len: usize| device::upload(&gpu, &vec![0.5; len]);
    let tensors = || [tensor(9_001), tensor(77)];
    for (builder, bind_groups) in [
        (Optimizer::builder(AdamW::default()), 2),
        // The tiles are cut: their norms read a scratch buffer.
        (Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0)), 3),
    ] {
        // No set is dropped while they are counted.
        let builder = builder.cached_buffer_sets(20);
        let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout).unwrap();
        let params = tensors();
        let sets: Vec<_> = (0..12).map(|_| tensors()).collect();
        let mut step = |grads: &[Buffer; 2]| created_by_step(&gpu, &mut optimizer, &params, grads);
        step(&sets[0]);
        let known = step(&sets[0]);
        for grads in &sets[1..] {
            let moved = step(grads);
            assert_eq!((moved[0], moved[2..].to_vec()), (known[0], known[2..].to_vec()));
            assert!((1..=bind_groups).contains(&moved[1]), "{moved:?}");
        }
    }
}

/// A snapshot copies buffers, and no tables of the host: they grow with the number of tensors.
#[test]
fn snapshots_share_the_tables_of_the_host() {
    let gpu = gpu();
    let builder = (0..2_000).fold(Layout::builder().packed(), |builder, i| builder.tensor(format!("layer{i}"), &[4]));
    let layout = builder.build().unwrap();
    let optimizer = Optimizer::builder(AdamW::default()).build(&gpu.device, &gpu.queue, &layout).unwrap();
    let (params, mut recorded) = (device::upload(&gpu, &vec![0.5; layout.len()]), encoder(&gpu));
    let first = optimizer.snapshot(&mut recorded, &params).unwrap();
    let mut snapshots = vec![first];
    let taken = allocation_counter::measure(|| snapshots.push(optimizer.snapshot(&mut recorded, &params).unwrap()));
    assert!(taken.bytes_total < 100_000, "{} bytes for a snapshot", taken.bytes_total);
    gpu.queue.submit([recorded.finish()]);
}
