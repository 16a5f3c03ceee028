//! A model of many tensors, in buffers of all kinds, beside one flat buffer: dispatches, time of recording, time of a step.
//!
//! `cargo bench --bench slices`. Kinds take turns, so that what else the machine does meets all alike.

use std::time::Instant;

use wgpu_optim::wgpu::{self, Buffer, BufferSlice, BufferUsages, CommandEncoder, PollType};
use wgpu_optim::{AdamW, Clip, Gpu, Layout, Optimizer, OptimizerBuilder, SharedPipelines};

const ROUNDS: usize = 25;
/// More sets of gradients than an optimizer keeps bind groups for.
const SETS: usize = 12;

/// Where the tensors of parameters or gradients lie.
#[derive(Clone, Copy)]
enum Place {
    /// In one buffer, in the order of the layout.
    Neighbors,
    /// In one buffer, in another order.
    Scattered,
    /// In a buffer each.
    Buffers,
}

struct Kind {
    label: &'static str,
    params: Place,
    grads: Place,
    /// Whether each step meets gradients that no kept bind group knows.
    moves: bool,
    gathers: bool,
    /// Whether the program copies all parameters to a flat buffer before a step, and back after it.
    copies_params: bool,
}

const fn kind(label: &'static str, params: Place, grads: Place, moves: bool, gathers: bool) -> Kind {
    Kind { label, params, grads, moves, gathers, copies_params: false }
}

const KINDS: [Kind; 9] = [
    kind("flat", Place::Neighbors, Place::Neighbors, false, false),
    kind("one pool, scattered", Place::Scattered, Place::Scattered, false, false),
    kind("a buffer each", Place::Buffers, Place::Buffers, false, false),
    kind("a buffer each, gradients move", Place::Buffers, Place::Buffers, true, false),
    kind("a buffer each, gathered", Place::Buffers, Place::Buffers, false, true),
    kind("a buffer each, gradients move, gathered", Place::Buffers, Place::Buffers, true, true),
    Kind {
        copies_params: true,
        ..kind("a buffer each, gathered, parameters copied", Place::Buffers, Place::Buffers, false, true)
    },
    kind("flat parameters, gradients move", Place::Neighbors, Place::Buffers, true, false),
    kind("flat parameters, gradients move, gathered", Place::Neighbors, Place::Buffers, true, true),
];

/// The slices of one set of tensors.
struct Tensors(Vec<(Buffer, u64, u64)>);

impl Tensors {
    fn new(gpu: &Gpu, layout: &Layout, place: Place) -> Self {
        let buffer = |size| {
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let all = layout.tensors().iter().map(|tensor| 4 * tensor.range().len() as u64);
        let align = |bytes: u64| bytes.next_multiple_of(256);
        let pool = buffer(all.clone().map(align).sum::<u64>() + 256);
        let mut at = if matches!(place, Place::Scattered) { pool.size() } else { 0 };
        let tensor = |bytes: u64| match place {
            Place::Neighbors => {
                let start = at;
                at += align(bytes);
                (pool.clone(), start, bytes)
            }
            Place::Scattered => {
                at -= align(bytes);
                (pool.clone(), at, bytes)
            }
            Place::Buffers => (buffer(bytes), 0, bytes),
        };
        Self(all.map(tensor).collect())
    }

    fn slices(&self) -> Vec<BufferSlice<'_>> {
        self.0.iter().map(|(buffer, at, bytes)| buffer.slice(*at..at + bytes)).collect()
    }
}

/// Records a copy of each tensor.
fn copy(encoder: &mut CommandEncoder, from: &Tensors, to: &Tensors) {
    for ((from, first, bytes), (to, at, _)) in from.0.iter().zip(&to.0) {
        encoder.copy_buffer_to_buffer(from, *first, to, *at, *bytes);
    }
}

fn bind_groups(gpu: &Gpu) -> isize {
    gpu.device.get_internal_counters().hal.bind_groups.read()
}

/// One kind of buffers with its optimizer.
struct Case {
    optimizer: Optimizer,
    params: Tensors,
    /// The flat copy of the parameters, if the program makes one.
    flat: Option<Tensors>,
    grads: Vec<Tensors>,
    steps: usize,
    dispatches: isize,
}

impl Case {
    fn new(gpu: &Gpu, pipelines: &SharedPipelines, builder: OptimizerBuilder, layout: &Layout, kind: &Kind) -> Self {
        let builder = if kind.gathers { builder.gather_gradients() } else { builder };
        let optimizer = builder.build_shared(pipelines, &gpu.queue, layout).expect("an optimizer");
        let params = Tensors::new(gpu, layout, kind.params);
        let sets = if kind.moves { SETS } else { 1 };
        let grads = (0..sets).map(|_| Tensors::new(gpu, layout, kind.grads)).collect();
        let flat = kind.copies_params.then(|| Tensors::new(gpu, layout, Place::Neighbors));
        let mut case = Self { optimizer, params, flat, grads, steps: 0, dispatches: 0 };
        let before = bind_groups(gpu);
        let (params, grads) = (case.flat.as_ref().unwrap_or(&case.params).slices(), case.grads[0].slices());
        case.optimizer.prepare(&params, &grads).expect("buffers that fit");
        case.dispatches = bind_groups(gpu) - before;
        drop((params, grads));
        for _ in 0..SETS {
            case.step(gpu);
        }
        case
    }

    /// Seconds of recording, of finishing the encoder, and of all until the device has run it.
    fn step(&mut self, gpu: &Gpu) -> [f64; 3] {
        let grads = &self.grads[self.steps % self.grads.len()];
        self.steps += 1;
        let (params, grads) = (self.flat.as_ref().unwrap_or(&self.params).slices(), grads.slices());
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let start = Instant::now();
        if let Some(flat) = &self.flat {
            copy(&mut encoder, &self.params, flat);
        }
        self.optimizer.step(&mut encoder, &params, &grads).expect("a step");
        if let Some(flat) = &self.flat {
            copy(&mut encoder, flat, &self.params);
        }
        let recorded = start.elapsed();
        let finishing = Instant::now();
        let commands = encoder.finish();
        let finished = finishing.elapsed();
        gpu.queue.submit([commands]);
        gpu.device.poll(PollType::wait_indefinitely()).expect("the device answers");
        [recorded, finished, start.elapsed()].map(|time| time.as_secs_f64())
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let gpu = pollster::block_on(Gpu::new()).expect("a device");
    println!("{}", gpu.adapter.get_info().name);
    let pipelines = SharedPipelines::new(&gpu.device);
    for (tensors, elements) in [(200, 100_000), (2_000, 100_000), (200, 10_000_000), (2_000, 10_000_000)] {
        let len = elements / tensors;
        let layout = (0..tensors).fold(Layout::builder(), |layout, i| layout.tensor(i.to_string(), &[len]));
        let layout = layout.build().expect("a layout");
        for (clipped, builder) in [
            ("", Optimizer::builder(AdamW::default())),
            (", clipped", Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0))),
        ] {
            println!("\n{tensors} tensors, {elements} parameters{clipped}");
            let new = |kind| Case::new(&gpu, &pipelines, builder.clone(), &layout, kind);
            let mut cases: Vec<_> = KINDS.iter().map(new).collect();
            let mut times: Vec<[Vec<f64>; 3]> = vec![Default::default(); KINDS.len()];
            for _ in 0..ROUNDS {
                for (case, times) in cases.iter_mut().zip(&mut times) {
                    for (times, time) in times.iter_mut().zip(case.step(&gpu)) {
                        times.push(time);
                    }
                }
            }
            println!(
                "{:45} {:>10} {:>22} {:>11} {:>9}",
                "", "dispatches", "record µs (per tensor)", "finish µs", "step ms"
            );
            for ((kind, case), times) in KINDS.iter().zip(&cases).zip(&mut times) {
                let [record, finish, step] = times.each_mut().map(|times| median(times));
                let per_tensor = record * 1e6 / f64::from(tensors as u32);
                println!(
                    "{:45} {:>10} {:>12.1} ({per_tensor:>6.3}) {:>12.1} {:>9.3}",
                    kind.label,
                    case.dispatches,
                    record * 1e6,
                    finish * 1e6,
                    step * 1e3
                );
            }
        }
    }
}
