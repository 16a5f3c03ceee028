//! An update rule from outside the crate: `cargo run --release -p custom_rule`.
//!
//! It minimizes Σ (pᵢ - i)² with clipping, a schedule and a frozen group, none of which the rule knows of, on the
//! device where there is one and on the CPU engine.

mod add_sign;

use add_sign::AddSign;
use wgpu_optim::wgpu::{self, BufferUsages, util::DeviceExt};
use wgpu_optim::{Clip, Gpu, GroupOptions, Layout, Optimizer, Schedule};

const LEN: usize = 8;
const STEPS: u64 = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layout = Layout::builder().tensor("p", &[LEN]).packed().range(6..8, "frozen").build()?;
    let builder = Optimizer::builder(AddSign { lr: 0.1, beta: 0.9 })
        .schedule(Schedule::warmup_cosine(0.2, 10, STEPS))
        .clip(Clip::global_norm(1.0))
        .group("frozen", GroupOptions::default().frozen());

    let mut params = [0f32; LEN];
    let mut cpu = builder.clone().build_cpu(&layout)?;
    for _ in 0..STEPS {
        let grads = gradients(&params);
        cpu.step(&mut params, &grads)?;
    }
    println!("CPU engine: {params:.3?}");

    let gpu = match pollster::block_on(Gpu::new()) {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("no device: {error}");
            return Ok(());
        }
    };
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout)?;
    let buffer = |label, usage| {
        let contents = bytemuck::cast_slice(&[0f32; LEN]);
        gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: Some(label), contents, usage })
    };
    let storage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let (device_params, grads) = (buffer("params", storage), buffer("grads", storage));
    // A real program computes gradients on the device; here they come from the host to keep the example short.
    let mut params = [0f32; LEN];
    for _ in 0..STEPS {
        gpu.queue.write_buffer(&grads, 0, bytemuck::cast_slice(&gradients(&params)));
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        optimizer.step(&mut encoder, &device_params, &grads)?;
        gpu.queue.submit([encoder.finish()]);
        params = read(&gpu, &device_params)?;
    }
    println!("{}: {params:.3?}", gpu.describe());
    Ok(())
}

/// Of Σ (pᵢ - i)².
fn gradients(params: &[f32; LEN]) -> [f32; LEN] {
    std::array::from_fn(|i| 2.0 * (params[i] - i as f32))
}

fn read(gpu: &Gpu, buffer: &wgpu::Buffer) -> Result<[f32; LEN], Box<dyn std::error::Error>> {
    let staging = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("read-back"),
        size: buffer.size(),
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
    encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., |_| {});
    gpu.queue.submit([encoder.finish()]);
    gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
    let view = staging.get_mapped_range(..)?;
    Ok(bytemuck::pod_read_unaligned(&view))
}
