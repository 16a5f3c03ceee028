//! A fit on a device: one submission per step, and nothing read back but statistics and pictures.

mod buffers;
mod engine;
mod kernel;
#[cfg(test)]
mod tests;

use bytemuck::{Pod, Zeroable};
use wgpu_optim::Gpu;
use wgpu_optim::wgpu::{self, BufferUsages};

use crate::Result;
use crate::fit::{Fit, Plan, Point};
use crate::picture::Picture;
use engine::Engine;
use examples_common::read::read;

/// As `statistics.wgsl` writes it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Statistics {
    squares: f32,
    splats: u32,
}

impl From<Statistics> for Point {
    fn from(statistics: Statistics) -> Self {
        Self { squares: statistics.squares.into(), splats: statistics.splats }
    }
}

pub(crate) fn fit(gpu: &Gpu, plan: &Plan, report: impl Fn(u32, Point)) -> Result<Fit> {
    let mut engine = Engine::new(gpu, plan)?;
    let copy = |label, size| {
        let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        gpu.device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
    };
    let (point, frame) = (engine.buffers.statistics.size(), engine.buffers.picture.size());
    let points = copy("points", point * u64::from(plan.steps + 1));
    let frames = copy("frames", frame * plan.frames.len() as u64);
    for step in 0..=plan.steps {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        engine.record_picture(&mut encoder);
        encoder.copy_buffer_to_buffer(&engine.buffers.statistics, 0, &points, point * u64::from(step), point);
        if let Ok(number) = plan.frames.binary_search(&step) {
            encoder.copy_buffer_to_buffer(&engine.buffers.picture, 0, &frames, frame * number as u64, frame);
        }
        if step < plan.steps {
            engine.record_gradients(&mut encoder);
            engine.record_step(&mut encoder)?;
            if plan.grows_after(step + 1) {
                engine.record_growth(&mut encoder)?;
            }
        }
        gpu.queue.submit([encoder.finish()]);
        if plan.reports(step) {
            // Bounds the steps that queue up on the device, too.
            let statistics: Vec<Statistics> = read(gpu, &engine.buffers.statistics)?;
            report(step, statistics[0].into());
        }
    }
    let points: Vec<Statistics> = read(gpu, &points)?;
    let frames: Vec<[u8; 4]> = read(gpu, &frames)?;
    let picture = |pixels: &[[u8; 4]]| Picture {
        pixels: pixels.iter().map(|&[red, green, blue, _]| [red, green, blue]).collect(),
        ..*plan.target
    };
    Ok(Fit {
        points: points.into_iter().map(Point::from).collect(),
        frames: frames.chunks_exact(plan.target.pixels.len()).map(picture).collect(),
    })
}
