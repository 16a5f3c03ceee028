//! One device for all tests of a process, and f32 buffers to it and back.

use std::sync::OnceLock;

use wgpu_optim::wgpu::{
    BindGroupDescriptor, BindGroupEntry, Buffer, BufferDescriptor, BufferSlice, BufferUsages, CommandEncoderDescriptor,
    ComputePassDescriptor, ComputePipelineDescriptor, MapMode, PipelineCompilationOptions, PollType,
    ShaderModuleDescriptor, ShaderSource,
};
use wgpu_optim::{Error, Gpu, Layout, Optimizer, OptimizerBuilder, SharedPipelines};

/// Any adapter, software included. Panics without one: a test that needs a device must not pass where there is none.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| pollster::block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}")))
}

/// The pipelines of the common device.
pub fn pipelines() -> &'static SharedPipelines {
    static PIPELINES: OnceLock<SharedPipelines> = OnceLock::new();
    PIPELINES.get_or_init(|| SharedPipelines::new(&gpu().device))
}

/// An optimizer on a device; those on the common one share its pipelines from one test to the next.
pub fn build(gpu: &Gpu, builder: OptimizerBuilder, layout: &Layout) -> Result<Optimizer, Error> {
    if std::ptr::eq(gpu, self::gpu()) {
        builder.build_shared(pipelines(), &gpu.queue, layout)
    } else {
        builder.build(&gpu.device, &gpu.queue, layout)
    }
}

/// Whether the common device takes subnormal numbers for 0, as WGSL allows.
pub fn flushes_subnormals() -> bool {
    static FLUSHES: OnceLock<bool> = OnceLock::new();
    *FLUSHES.get_or_init(|| {
        let gpu = gpu();
        let source = "
            @group(0) @binding(0) var<storage, read_write> values: array<f32>;
            @compute @workgroup_size(1)
            fn subtract() { values[2] = values[0] - values[1]; }";
        let values = upload(gpu, &[2e-38, 1.5e-38, 1.0]);
        let source = ShaderSource::Wgsl(source.into());
        let module = gpu.device.create_shader_module(ShaderModuleDescriptor { label: None, source });
        let pipeline = gpu.device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("subtract"),
            compilation_options: PipelineCompilationOptions::default(),
            cache: None,
        });
        let layout = pipeline.get_bind_group_layout(0);
        let entries = [BindGroupEntry { binding: 0, resource: values.as_entire_binding() }];
        let bound =
            gpu.device.create_bind_group(&BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bound, &[]);
        pass.dispatch_workgroups(1, 1, 1);
        drop(pass);
        gpu.queue.submit([encoder.finish()]);
        let difference = download(gpu, &values)[2];
        assert!(difference == 0.0 || difference.is_subnormal(), "{difference:e}");
        difference == 0.0
    })
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
