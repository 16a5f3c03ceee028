//! Time and bytes per second of one step per rule, with and without clipping, beside what memory can do: on the device
//! a copy kernel, on the CPU a threaded memcpy, over the same number of bytes in the same run. At the end the figure
//! to quote: the step's rate as a share of the copy's. And what recording a step costs the host, beside the same calls of
//! wgpu made by hand (both on wgpu's backend that runs nothing).
//!
//! `cargo bench --bench step`, or with a filter: `cargo bench --bench step -- 'gpu/adamw'`.

#[path = "../tests/common/by_hand.rs"]
mod by_hand;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use rayon::prelude::*;
use wgpu_optim::wgpu::{self, BufferUsages, PollType};
use wgpu_optim::{AdamW, Clip, Gpu, Layout, Lion, Optimizer, OptimizerBuilder, Sgd};

const MEBI: usize = 1 << 20;
const SIZES: [usize; 3] = [MEBI, 16 * MEBI, 64 * MEBI];
/// Bytes of one copy dispatch's source and of its target.
const COPY_CHUNK: u64 = 64 << 20;

/// Name, optimizer, and bytes that a step moves per parameter.
fn rules() -> Vec<(String, OptimizerBuilder, u64)> {
    let rules = [
        ("sgd", Optimizer::builder(Sgd::default()), 12),
        ("momentum", Optimizer::builder(Sgd::default().with_momentum(0.9)), 20),
        ("adamw", Optimizer::builder(AdamW::default()), 28),
        ("adamw-amsgrad", Optimizer::builder(AdamW::default().with_amsgrad(true)), 36),
        ("lion", Optimizer::builder(Lion::default()), 20),
    ];
    let both = rules.into_iter().flat_map(|(name, builder, bytes)| {
        let clipped = builder.clone().clip(Clip::global_norm(1.0));
        [(name.to_owned(), builder, bytes), (format!("{name}+clip"), clipped, bytes + 4)]
    });
    both.collect()
}

/// Seconds per iteration of every sample, by engine, number of bytes and name.
type Times = RefCell<BTreeMap<(&'static str, u64, String), Vec<f64>>>;

struct Suite<'a> {
    criterion: &'a mut Criterion,
    times: &'a Times,
}

impl Suite<'_> {
    /// Measures once for each engine, name and number of bytes.
    fn run(&mut self, engine: &'static str, name: &str, bytes: u64, mut run: impl FnMut(u64) -> Duration) {
        if self.times.borrow().contains_key(&(engine, bytes, name.to_owned())) {
            return;
        }
        let mut group = self.criterion.benchmark_group(engine);
        group.sample_size(10).throughput(Throughput::Bytes(bytes));
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        group.bench_function(BenchmarkId::new(name, format!("{} MiB", bytes / MEBI as u64)), |bencher| {
            bencher.iter_custom(|iterations| {
                let elapsed = run(iterations);
                let key = (engine, bytes, name.to_owned());
                self.times.borrow_mut().entry(key).or_default().push(elapsed.as_secs_f64() / iterations as f64);
                elapsed
            });
        });
        group.finish();
    }
}

/// One submission of `iterations` times what `record` records; the caller's buffers are warm.
fn submit(gpu: &Gpu, iterations: u64, mut record: impl FnMut(&mut wgpu::CommandEncoder)) -> Duration {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for _ in 0..iterations {
        record(&mut encoder);
    }
    let start = Instant::now();
    gpu.queue.submit([encoder.finish()]);
    gpu.device.poll(PollType::wait_indefinitely()).expect("the device answers");
    start.elapsed()
}

fn buffer(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

struct Copy {
    pipeline: wgpu::ComputePipeline,
    source: wgpu::Buffer,
    target: wgpu::Buffer,
}

impl Copy {
    fn new(gpu: &Gpu) -> Self {
        let module = gpu.device.create_shader_module(wgpu::include_wgsl!("copy.wgsl"));
        let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("copy"),
            layout: None,
            module: &module,
            entry_point: Some("copy"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        Self { pipeline, source: buffer(gpu, COPY_CHUNK), target: buffer(gpu, COPY_CHUNK) }
    }

    /// Moves `bytes`: half of them read, half written.
    fn record(&self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder, bytes: u64) {
        let mut left = bytes / 2;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        while left > 0 {
            let size = left.min(COPY_CHUNK);
            left -= size;
            let part = |buffer| {
                wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: wgpu::BufferSize::new(size.next_multiple_of(16)),
                })
            };
            let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &self.pipeline.get_bind_group_layout(0),
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: part(&self.source) },
                    wgpu::BindGroupEntry { binding: 1, resource: part(&self.target) },
                ],
            });
            pass.set_bind_group(0, &bind_group, &[]);
            let workgroups = size.div_ceil(16 * 256);
            let rows = workgroups.div_ceil(65_535);
            pass.dispatch_workgroups(workgroups.div_ceil(rows) as u32, rows as u32, 1);
        }
    }
}

fn bench_gpu(suite: &mut Suite<'_>, gpu: &Gpu) {
    let copy = Copy::new(gpu);
    for elements in SIZES {
        let layout = Layout::flat(elements).expect("it is not empty");
        let (params, grads) = (buffer(gpu, layout.buffer_size()), buffer(gpu, layout.buffer_size()));
        for (name, builder, per_element) in rules() {
            let bytes = per_element * elements as u64;
            suite.run("gpu", "copy", bytes, |n| submit(gpu, n, |encoder| copy.record(gpu, encoder, bytes)));
            let mut optimizer =
                builder.build(&gpu.device, &gpu.queue, &layout).expect("the default limits hold every rule");
            suite.run("gpu", &name, bytes, |n| {
                submit(gpu, n, |encoder| {
                    optimizer.step(encoder, &params, &grads).expect("the buffers fit");
                })
            });
        }
    }
}

fn bench_cpu(suite: &mut Suite<'_>) {
    for elements in SIZES {
        let layout = Layout::flat(elements).expect("it is not empty");
        let (mut params, grads) = (vec![1f32; elements], vec![1e-3f32; elements]);
        for (name, builder, per_element) in rules() {
            let bytes = per_element * elements as u64;
            let source = vec![1u8; bytes as usize / 2];
            let mut target = vec![0u8; bytes as usize / 2];
            suite.run("cpu", "copy", bytes, |n| {
                let start = Instant::now();
                for _ in 0..n {
                    let parts = target.par_chunks_mut(MEBI).zip(source.par_chunks(MEBI));
                    parts.for_each(|(target, source)| target.copy_from_slice(source));
                    black_box(&mut target);
                }
                start.elapsed()
            });
            drop((source, target));
            let mut optimizer = builder.build_cpu(&layout).expect("the rule is valid");
            suite.run("cpu", &name, bytes, |n| {
                let start = Instant::now();
                for _ in 0..n {
                    optimizer.step(&mut params, &grads).expect("the slices fit");
                }
                start.elapsed()
            });
        }
    }
}

/// Records a step over 200 tensors, and the same calls by hand.
fn bench_recording(criterion: &mut Criterion) {
    let by_hand = by_hand::ByHand::new();
    let layout = by_hand::layout();
    let (device, queue) = &by_hand.gpu;
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    let [params, grads] = [(); 2].map(|()| by_hand::buffer(device, layout.buffer_size(), usage));
    let mut group = criterion.benchmark_group("record");
    let time = |iterations, record: &mut dyn FnMut(&mut wgpu::CommandEncoder)| {
        let mut elapsed = Duration::ZERO;
        for _ in 0..iterations {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let start = Instant::now();
            record(&mut encoder);
            elapsed += start.elapsed();
            queue.submit([encoder.finish()]);
            device.poll(PollType::wait_indefinitely()).expect("the device answers");
        }
        elapsed
    };
    let single_pass = Optimizer::builder(AdamW::default());
    let clipped = single_pass.clone().clip(Clip::global_norm(1.0));
    for (name, builder, dispatches) in [("adamw", single_pass, 1), ("adamw+clip", clipped, 3)] {
        let mut optimizer = builder.build(device, queue, &layout).expect("the default limits hold every rule");
        let mut step = |encoder: &mut wgpu::CommandEncoder| {
            optimizer.step(encoder, &params, &grads).expect("the buffers fit");
        };
        group.bench_function(name, |bencher| bencher.iter_custom(|n| time(n, &mut step)));
        let mut by_hand = |encoder: &mut wgpu::CommandEncoder| by_hand.record(encoder, dispatches);
        let name = format!("{dispatches} dispatches by hand");
        group.bench_function(name, |bencher| bencher.iter_custom(|n| time(n, &mut by_hand)));
    }
    group.finish();
}

fn median(samples: &[f64]) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench_recording(&mut criterion);
    let times = Times::default();
    let mut suite = Suite { criterion: &mut criterion, times: &times };
    bench_cpu(&mut suite);
    match pollster::block_on(Gpu::new()) {
        Ok(gpu) => {
            println!("gpu: {}", gpu.describe());
            bench_gpu(&mut suite, &gpu);
        }
        Err(error) => println!("gpu: {error}"),
    }
    criterion.final_summary();
    println!("\nrate of a step as a share of the copy's, over the same bytes (medians):");
    let times = times.into_inner();
    for ((engine, bytes, name), samples) in times.iter().filter(|((_, _, name), _)| name != "copy") {
        if let Some(copy) = times.get(&(*engine, *bytes, "copy".to_owned())) {
            let (step, copy) = (median(samples), median(copy));
            let rate = *bytes as f64 / step / 1e9;
            println!(
                "{engine:4} {name:20} {:6} MiB {:9.3} ms {rate:7.1} GB/s  {:5.2}",
                bytes / MEBI as u64,
                step * 1e3,
                copy / step
            );
        }
    }
}
