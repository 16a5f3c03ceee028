//! The ceiling on a device: a kernel that reads gradients and reads and writes all other streams in place, 16 bytes an
//! access, with two integer operations a word.

use std::fmt::Write;

use wgpu_optim::wgpu::{self, BufferUsages, util::DeviceExt};

/// Accesses in flight per thread and stream; the fastest counts as the ceiling.
pub(crate) const LOADS: [u32; 2] = [1, 4];
const WORKGROUP: u64 = 256;

/// The kernel over one number of streams.
pub(crate) struct Stream {
    layout: wgpu::BindGroupLayout,
    pipelines: [wgpu::ComputePipeline; LOADS.len()],
    /// Zero, which the compiler does not know: streams keep their contents.
    mask: wgpu::Buffer,
}

/// A run of all streams that fits into bindings.
pub(crate) struct Run {
    bind_group: wgpu::BindGroup,
    quads: u64,
}

impl Stream {
    /// `streams` counts parameters, gradients and states.
    pub(crate) fn new(device: &wgpu::Device, streams: usize) -> Self {
        let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let storage = |read_only| buffer(wgpu::BufferBindingType::Storage { read_only });
        let entries: Vec<_> = (0..=streams as u32)
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: if binding == 0 { buffer(wgpu::BufferBindingType::Uniform) } else { storage(binding == 1) },
                count: None,
            })
            .collect();
        let label = Some("throughput stream");
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let source = wgpu::ShaderSource::Wgsl(source(streams).into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipelines = LOADS.map(|loads| {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label,
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("stream"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[("LOADS", loads.into())],
                    ..Default::default()
                },
                cache: None,
            })
        });
        let contents = bytemuck::bytes_of(&[0u32; 4]);
        let mask = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label,
            contents,
            usage: BufferUsages::UNIFORM,
        });
        Self { layout, pipelines, mask }
    }

    /// Binds streams that are divided into buffers at the same places, the gradients first.
    pub(crate) fn bind(&self, device: &wgpu::Device, streams: &[Vec<wgpu::BufferSlice<'_>>]) -> Vec<Run> {
        let largest = device.limits().max_storage_buffer_binding_size / 256 * 256;
        let mut runs = Vec::new();
        for piece in 0..streams[0].len() {
            let bytes = streams[0][piece].size() / 16 * 16;
            let mut offset = 0;
            while offset < bytes {
                let size = largest.min(bytes - offset);
                let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: self.mask.as_entire_binding() }];
                for (stream, binding) in streams.iter().zip(1..) {
                    let part = stream[piece];
                    let buffer = wgpu::BufferBinding {
                        buffer: part.buffer(),
                        offset: part.offset() + offset,
                        size: wgpu::BufferSize::new(size),
                    };
                    entries.push(wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(buffer) });
                }
                let label = Some("throughput stream");
                let descriptor = wgpu::BindGroupDescriptor { label, layout: &self.layout, entries: &entries };
                runs.push(Run { bind_group: device.create_bind_group(&descriptor), quads: size / 16 });
                offset += size;
            }
        }
        runs
    }

    /// Records one pass over the runs, with `LOADS[variant]` accesses in flight.
    pub(crate) fn record(&self, encoder: &mut wgpu::CommandEncoder, runs: &[Run], variant: usize) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipelines[variant]);
        for run in runs {
            let workgroups = run.quads.div_ceil(WORKGROUP * u64::from(LOADS[variant]));
            let rows = workgroups.div_ceil(65_535).max(1);
            pass.set_bind_group(0, &run.bind_group, &[]);
            pass.dispatch_workgroups(workgroups.div_ceil(rows) as u32, rows as u32, 1);
        }
    }
}

fn source(streams: usize) -> String {
    let mut bindings = String::new();
    let mut accesses = String::new();
    for i in 2..=streams {
        // Writing to a String cannot fail.
        let _ = writeln!(bindings, "@group(0) @binding({i}) var<storage, read_write> stream{i}: array<vec4<u32>>;");
        let _ = writeln!(accesses, "        stream{i}[at] = stream{i}[at] ^ masked;");
    }
    include_str!("stream.wgsl").replace("// BINDINGS\n", &bindings).replace("        // ACCESSES\n", &accesses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu_optim::Gpu;

    /// Every quad of every stream is met once: with a mask of ones, streams become themselves xor the gradient.
    #[test]
    fn streams_are_read_and_written_once() {
        let gpu = pollster::block_on(Gpu::new()).expect("an adapter");
        for variant in 0..LOADS.len() {
            let mut stream = Stream::new(&gpu.device, 3);
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
            let init = |contents: &[u32], usage| {
                let contents = bytemuck::cast_slice(contents);
                gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
            };
            stream.mask = init(&[u32::MAX; 4], BufferUsages::UNIFORM);
            let values = |seed: u32| (0..4_000 * 4).map(|i: u32| i.wrapping_mul(seed)).collect::<Vec<_>>();
            let contents = [3, 7, 11].map(values);
            let buffers = contents.each_ref().map(|values| init(values, usage));
            let slices = buffers.each_ref().map(|buffer| vec![buffer.slice(..)]);
            let runs = stream.bind(&gpu.device, &slices);
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            stream.record(&mut encoder, &runs, variant);
            gpu.queue.submit([encoder.finish()]);
            for (i, buffer) in buffers.iter().enumerate() {
                let read = crate::gpu::read::<u32>(&gpu, buffer);
                let expected =
                    contents[i].iter().zip(&contents[0]).map(|(own, grad)| if i == 0 { *own } else { own ^ grad });
                assert!(read.iter().copied().eq(expected), "stream {i} of variant {variant}");
            }
        }
    }
}
