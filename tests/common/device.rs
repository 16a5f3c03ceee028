//! One device for all tests of a process, and f32 buffers to it and back.

use std::sync::OnceLock;

use wgpu_optim::wgpu::{
    Buffer, BufferDescriptor, BufferSlice, BufferUsages, CommandEncoderDescriptor, MapMode, PollType,
};
use wgpu_optim::{Error, Gpu, Layout, Optimizer, OptimizerBuilder, SharedPipelines};

/// Any adapter, software included. Panics without one: a test that needs a device must not pass where there is none.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| pollster::block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}")))
}

/// An optimizer on a device; those on the common one share its pipelines from one test to the next.
pub fn build(gpu: &Gpu, builder: OptimizerBuilder, layout: &Layout) -> Result<Optimizer, Error> {
    static PIPELINES: OnceLock<SharedPipelines> = OnceLock::new();
    if std::ptr::eq(gpu, self::gpu()) {
        builder.build_shared(PIPELINES.get_or_init(|| SharedPipelines::new(&gpu.device)), &gpu.queue, layout)
    } else {
        builder.build(&gpu.device, &gpu.queue, layout)
    }
}

/// A storage buffer that holds `values`, and can be copied from and to.
pub fn upload(gpu: &Gpu, values: &[f32]) -> Buffer {
    let buffer = gpu.device.create_buffer(&BufferDescriptor {
        label: None,
        size: size_of_val(values) as u64,
        usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values));
    buffer
}

/// The contents of `buffer` after all submissions so far.
pub fn download(gpu: &Gpu, buffer: &Buffer) -> Vec<f32> {
    download_slice(gpu, buffer.slice(..))
}

/// The contents of a part of a buffer after all submissions so far.
pub fn download_slice(gpu: &Gpu, slice: BufferSlice<'_>) -> Vec<f32> {
    let size = slice.size();
    let staging = gpu.device.create_buffer(&BufferDescriptor {
        label: None,
        size,
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(slice.buffer(), slice.offset(), &staging, 0, size);
    gpu.queue.submit([encoder.finish()]);
    staging.map_async(MapMode::Read, .., |result| result.expect("a fresh staging buffer maps"));
    gpu.device.poll(PollType::wait_indefinitely()).expect("the device answers");
    let mapped = staging.get_mapped_range(..).expect("mapped");
    let values = bytemuck::cast_slice(&mapped).to_vec();
    drop(mapped);
    values
}
