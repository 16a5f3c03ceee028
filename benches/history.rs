//! What a history costs steps over 16 Mi parameters: 50 of them without one, with one, and with norms in one of the 50.
//!
//! `cargo bench --bench history`. Rounds take turns, so that what else the machine does meets all alike.

use std::time::Instant;

use wgpu_optim::history::HistoryOptions;
use wgpu_optim::wgpu::{self, BufferUsages, PollType};
use wgpu_optim::{AdamW, Clip, Gpu, Layout, Optimizer, OptimizerBuilder};

const LEN: usize = 16 << 20;
const STEPS: u32 = 50;
const ROUNDS: usize = 7;

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

fn on_gpu(gpu: &Gpu, builder: OptimizerBuilder, layout: &Layout) -> Steps {
    let gpu = gpu.clone();
    let mut optimizer = builder.build(&gpu.device, layout).expect("an optimizer");
    let [params, grads] = [(); 2].map(|()| {
        let (size, usage) = (layout.buffer_size(), BufferUsages::STORAGE);
        gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    });
    Box::new(move |steps| {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for _ in 0..steps {
            optimizer.step(&mut encoder, &gpu.queue, &params, &grads).expect("a step");
        }
        gpu.queue.submit([encoder.finish()]);
        gpu.device.poll(PollType::wait_indefinitely()).expect("the device answers");
    })
}

/// Prints the least and the median times of a step, and what they are of the first.
fn measure(label: &str, make: impl Fn(OptimizerBuilder) -> Steps) {
    let norms = HistoryOptions::steps(1_000).with_norms_every(STEPS);
    let builder = Optimizer::builder(AdamW::default());
    for (clipped, builder) in [("", builder.clone()), (", clipped", builder.clip(Clip::global_norm(1.0)))] {
        let mut kinds = [
            ("no history", make(builder.clone())),
            ("history", make(builder.clone().history(1_000))),
            ("norms in 1 of 50", make(builder.clone().history(norms.clone()))),
            ("norms in 1 of 50, per group", make(builder.clone().history(norms.clone().per_group()))),
        ];
        let mut times = [[0.0; ROUNDS]; 4];
        for round in 0..=ROUNDS {
            for ((_, steps), times) in kinds.iter_mut().zip(&mut times) {
                let start = Instant::now();
                steps(STEPS);
                // The first round warms up.
                if round > 0 {
                    times[round - 1] = start.elapsed().as_secs_f64() / f64::from(STEPS);
                }
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
        Ok(gpu) => measure(&gpu.adapter.get_info().name, |builder| on_gpu(&gpu, builder, &layout)),
        Err(error) => println!("no steps on a GPU: {error}"),
    }
}
