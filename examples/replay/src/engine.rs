use wgpu_optim::wgpu::{self, BufferUsages, util::DeviceExt};
use wgpu_optim::{CpuOptimizer, Gpu, HostSlice, Optimizer, Stats};

use super::Error;

/// An optimizer with its parameters, on a device or on the CPU.
pub(crate) enum Engine {
    Cpu { optimizer: Box<CpuOptimizer>, params: Vec<f32> },
    Gpu { optimizer: Box<Optimizer>, gpu: Gpu, params: wgpu::Buffer, grads: wgpu::Buffer },
}

impl Engine {
    pub(crate) fn cpu(optimizer: CpuOptimizer, params: &[f32]) -> Self {
        Self::Cpu { optimizer: Box::new(optimizer), params: params.to_vec() }
    }

    pub(crate) fn gpu(optimizer: Optimizer, gpu: Gpu, params: &[f32]) -> Self {
        let buffer = |label| {
            let contents = bytemuck::cast_slice(params);
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: Some(label), contents, usage })
        };
        let (params, grads) = (buffer("params"), buffer("grads"));
        Self::Gpu { optimizer: Box::new(optimizer), gpu, params, grads }
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Cpu { .. } => "the CPU engine".to_owned(),
            Self::Gpu { gpu, .. } => gpu.describe(),
        }
    }

    pub(crate) fn step(&mut self, grad: &[f32]) -> Result<Stats, Error> {
        match self {
            Self::Cpu { optimizer, params } => Ok(optimizer.step(params, grad)?),
            Self::Gpu { optimizer, gpu, params, grads } => {
                gpu.queue.write_buffer(grads, 0, bytemuck::cast_slice(grad));
                let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                optimizer.step(&mut encoder, &*params, &*grads)?;
                let stats = optimizer.stats(&mut encoder);
                gpu.queue.submit([encoder.finish()]);
                gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
                Ok(pollster::block_on(stats)?)
            }
        }
    }

    /// Gives Sophia an estimate of the Hessian's diagonal.
    pub(crate) fn update_hessian(&mut self, estimate: &[f32]) -> Result<(), Error> {
        match self {
            Self::Cpu { optimizer, params } => optimizer.update_hessian(params, estimate)?,
            Self::Gpu { optimizer, gpu, params, grads } => {
                gpu.queue.write_buffer(grads, 0, bytemuck::cast_slice(estimate));
                let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                optimizer.update_hessian(&mut encoder, &*params, &*grads)?;
                gpu.queue.submit([encoder.finish()]);
            }
        }
        Ok(())
    }

    pub(crate) fn params(&self) -> Result<Vec<f32>, Error> {
        match self {
            Self::Cpu { params, .. } => Ok(params.clone()),
            Self::Gpu { gpu, params, .. } => read(gpu, params.slice(..)),
        }
    }

    pub(crate) fn state_names(&self) -> Vec<String> {
        match self {
            Self::Cpu { optimizer, .. } => optimizer.state_names().map(str::to_owned).collect(),
            Self::Gpu { optimizer, .. } => optimizer.state_names().into_iter().map(str::to_owned).collect(),
        }
    }

    pub(crate) fn state(&self, name: &str) -> Result<Vec<f32>, Error> {
        match self {
            Self::Cpu { optimizer, .. } => Ok(optimizer.state(name).map(HostSlice::to_f32).unwrap_or_default()),
            Self::Gpu { optimizer, gpu, .. } => {
                let mut values = Vec::new();
                for slice in optimizer.state(name).unwrap_or_default() {
                    values.extend(read(gpu, slice)?);
                }
                Ok(values)
            }
        }
    }
}

fn read(gpu: &Gpu, slice: wgpu::BufferSlice<'_>) -> Result<Vec<f32>, Error> {
    let staging = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("read-back"),
        size: slice.size(),
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(slice.buffer(), slice.offset(), &staging, 0, slice.size());
    encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., |_| {});
    gpu.queue.submit([encoder.finish()]);
    gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
    let view = staging.get_mapped_range(..)?;
    Ok(bytemuck::pod_collect_to_vec(&view))
}
