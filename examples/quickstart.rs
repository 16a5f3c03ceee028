//! Three steps of AdamW on the CPU engine, then on a device: `cargo run --example quickstart`.

use std::collections::VecDeque;

use wgpu_optim::wgpu::{self, BufferUsages, PollType, util::DeviceExt};
use wgpu_optim::{AdamW, Clip, Error, Gpu, GroupOptions, Layout, Optimizer, ReadbackStats, Schedule, Stats};

const STEPS: u64 = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A linear layer with 4 inputs and 2 outputs.
    let layout = Layout::builder().tensor("weight", &[2, 4]).tensor("bias", &[2]).group("no_decay").packed().build()?;
    let builder = Optimizer::builder(AdamW::default().with_weight_decay(0.1))
        .schedule(Schedule::warmup_cosine(1e-3, 2, 10))
        .clip(Clip::global_norm(1.0))
        .group("no_decay", GroupOptions::default().with_weight_decay(0.0));
    // Real programs compute new gradients for each step.
    let grads = [0.5; 10];

    let mut params = [1.0; 10];
    let mut optimizer = builder.clone().build_cpu(&layout)?;
    for _ in 0..STEPS {
        print("CPU engine", &optimizer.step(&mut params, &grads)?);
    }

    let gpu = match pollster::block_on(Gpu::new()) {
        Err(error @ Error::NoAdapter { .. }) => {
            println!("no device: {error}");
            return Ok(());
        }
        gpu => gpu?,
    };
    let name = gpu.describe();
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout)?;
    let buffer = |label, values: &[f32]| {
        let (contents, usage) = (bytemuck::cast_slice(values), BufferUsages::STORAGE);
        gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: Some(label), contents, usage })
    };
    let (params, grads) = (buffer("params", &[1.0; 10]), buffer("grads", &grads));
    let mut pending = VecDeque::new();
    for step in 1..=STEPS {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        optimizer.step(&mut encoder, &params, &grads)?;
        pending.push_back(optimizer.stats(&mut encoder));
        gpu.queue.submit([encoder.finish()]);
        // Delivers finished statistics without waiting. Browsers poll by themselves: await the readback there.
        gpu.device.poll(PollType::Poll)?;
        if step == STEPS {
            // Waits for the statistics of the last steps.
            gpu.device.poll(PollType::wait_indefinitely())?;
        }
        while let Some(stats) = pending.front_mut().and_then(ReadbackStats::try_take) {
            pending.pop_front();
            print(&name, &stats?);
        }
    }
    Ok(())
}

fn print(engine: &str, stats: &Stats) {
    let Stats { step, lr, clip_coef, .. } = stats;
    println!("{engine}: step {step}, lr {lr:.6}, grad norm {:.4}, clip {clip_coef:.4}", stats.grad_norm.unwrap_or(0.0));
}
