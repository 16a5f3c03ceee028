//! What a history costs a step over 16 Mi parameters: without one, with one, and with norms of all or of groups. Norms in one
//! of n steps cost a n-th of what they cost in each.
//!
//! `cargo bench --bench history`. Kinds take turns, so that what else the machine does meets all alike.

use std::time::Instant;

use wgpu_optim::history::HistoryOptions;
use wgpu_optim::wgpu::{self, BufferUsages, PollType};
use wgpu_optim::{AdamW, Clip, Gpu, Layout, Optimizer, OptimizerBuilder, SharedPipelines};

const LEN: usize = 16 << 20;
const STEPS: u32 = 8;
const ROUNDS: usize = 15;

type Steps = Box<dyn FnMut(u32)>;

fn on_cpu(builder: OptimizerBuilder, layout: &Layout) -> Steps {
    let mut optimizer = builder.build_cpu(layout).expect("an optimizer");
    let (mut params, grads) = (vec![1.0; LEN], vec![0.5; LEN]);
    Box::new(move |steps| {
        for _ in 0..steps {
            optimizer.step(&mut params, &grads).expect("a step");
        }
    })
}

fn on_gpu(gpu: &Gpu, pipelines: &SharedPipelines, builder: OptimizerBuilder, layout: &Layout) -> Steps {
    let gpu = gpu.clone();
    let mut optimizer = builder.build_shared(pipelines, &gpu.queue, layout).expect("an optimizer");
    let [params, grads] = [(); 2].map(|()| {
        let (size, usage) = (layout.buffer_size(), BufferUsages::STORAGE);
        gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    });
    Box::new(move |steps| {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for _ in 0..steps {
            optimizer.step(&mut encoder, &params, &grads).expect("a step");
        }
        gpu.queue.submit([encoder.finish()]);
        gpu.device.poll(PollType::wait_indefinitely()).expect("the device answers");
    })
}

/// Prints the least and the median times of a step, and what they are of the first.
fn measure(label: &str, make: impl Fn(OptimizerBuilder) -> Steps) {
    let norms = HistoryOptions::steps(1_000).with_norms_every(1);
    let builder = Optimizer::builder(AdamW::default());
    for (clipped, builder) in [("", builder.clone()), (", clipped", builder.clip(Clip::global_norm(1.0)))] {
        let kinds = [
            ("no history", builder.clone()),
            ("history", builder.clone().history(1_000)),
            ("norms", builder.clone().history(norms.clone())),
            ("norms per group", builder.clone().history(norms.clone().per_group())),
        ];
        let mut times = [[0.0; ROUNDS]; 4];
        for round in 0..ROUNDS {
            for ((_, builder), times) in kinds.iter().zip(&mut times) {
                // In each round anew, since it matters where the states happen to lie.
                let mut steps = make(builder.clone());
                // The first step also compiles.
                steps(1);
                let start = Instant::now();
                steps(STEPS);
                times[round] = start.elapsed().as_secs_f64() / f64::from(STEPS);
            }
        }
        for times in &mut times {
            times.sort_by(f64::total_cmp);
        }
        for ((kind, _), of_kind) in kinds.iter().zip(&times) {
            let [least, median] =
                [0, ROUNDS / 2].map(|i| format!("{:.2} ms ({:.3})", of_kind[i] * 1e3, of_kind[i] / times[0][i]));
            println!("{label}{clipped}: {kind}: least {least}, median {median}");
        }
    }
}

fn main() {
    let layout = Layout::flat(LEN).expect("a layout");
    measure("cpu", |builder| on_cpu(builder, &layout));
    match pollster::block_on(Gpu::new()) {
        Ok(gpu) => {
            let pipelines = SharedPipelines::new(&gpu.device);
            measure(&gpu.adapter.get_info().name, |builder| on_gpu(&gpu, &pipelines, builder, &layout));
        }
        Err(error) => println!("no steps on a GPU: {error}"),
    }
}
