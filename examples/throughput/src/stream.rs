//! The ceiling on a device: a kernel that reads gradients and reads and writes all other streams in place, 16 bytes an
//! access, with two integer operations a word.

use wgpu_optim::wgpu::{self, BufferUsages, util::DeviceExt};

/// Invocations per workgroup, and accesses per invocation and stream; the fastest counts as the ceiling.
pub(crate) const SHAPES: [Shape; 2] = [Shape { lanes: 256, quads: 1 }, Shape { lanes: 64, quads: 4 }];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) lanes: u32,
    pub(crate) quads: u32,
}

/// Kernels over one number of streams. Binding 0 is a uniform, 1 the gradients, which are read, and the others the streams
/// that are read and written.
pub(crate) struct Stream {
    layout: wgpu::BindGroupLayout,
    pipelines: Vec<(Shape, wgpu::ComputePipeline)>,
    uniform: wgpu::Buffer,
}

/// A run of all streams that fits into bindings.
pub(crate) struct Run {
    bind_group: wgpu::BindGroup,
    quads: u64,
}

impl Stream {
    /// The streaming kernel in all shapes. `streams` counts parameters, gradients and states.
    pub(crate) fn new(device: &wgpu::Device, streams: usize) -> Self {
        // Zero, which the compiler does not know: streams keep their contents.
        let mask = bytemuck::bytes_of(&[0u32; 4]);
        Self::of(device, streams, mask, SHAPES.map(|shape| (shape, source(streams, shape))))
    }

    /// Kernels of these shapes and sources, with the entry point `stream`.
    pub(crate) fn of(
        device: &wgpu::Device,
        streams: usize,
        uniform: &[u8],
        sources: impl IntoIterator<Item = (Shape, String)>,
    ) -> Self {
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
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipelines = sources.into_iter().map(|(shape, source)| {
            let source = wgpu::ShaderSource::Wgsl(source.into());
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label,
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("stream"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            });
            (shape, pipeline)
        });
        let usage = BufferUsages::UNIFORM;
        let descriptor = wgpu::util::BufferInitDescriptor { label, contents: uniform, usage };
        Self { pipelines: pipelines.collect(), uniform: device.create_buffer_init(&descriptor), layout }
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
                let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: self.uniform.as_entire_binding() }];
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

    /// Records one pass over the runs, by the kernel of this number.
    pub(crate) fn record(&self, encoder: &mut wgpu::CommandEncoder, runs: &[Run], kernel: usize) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let (Shape { lanes, quads }, pipeline) = &self.pipelines[kernel];
        pass.set_pipeline(pipeline);
        for run in runs {
            let workgroups = run.quads.div_ceil(u64::from(lanes * quads));
            let rows = workgroups.div_ceil(65_535).max(1);
            pass.set_bind_group(0, &run.bind_group, &[]);
            pass.dispatch_workgroups(workgroups.div_ceil(rows) as u32, rows as u32, 1);
        }
    }
}

fn source(streams: usize, Shape { lanes, quads }: Shape) -> String {
    let lines =
        |numbers: std::ops::Range<u32>, line: &dyn Fn(u32) -> String| numbers.map(line).collect::<Vec<_>>().join("\n");
    let others = 2..streams as u32 + 1;
    let binding = |i| format!("@group(0) @binding({i}) var<storage, read_write> stream{i}: array<vec4<u32>>;");
    include_str!("stream.wgsl")
        .replace("// BINDINGS", &lines(others.clone(), &binding))
        .replace("// LOADS", &lines(others.clone(), &|i| format!("let own{i} = stream{i}[at];")))
        .replace("// STORES", &lines(others, &|i| format!("stream{i}[at] = own{i} ^ masked;")))
        .replace("// CALLS", &lines(0..quads, &|i| format!("stream_quad(first + {}u);", i * 8)))
        + &format!("const LANES: u32 = {lanes}u;\nconst QUADS: u32 = {quads}u;\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu_optim::Gpu;

    /// Every quad of every stream is met once: with a mask of ones, streams become themselves xor the gradient.
    #[test]
    fn streams_are_read_and_written_once() {
        let gpu = pollster::block_on(Gpu::new()).expect("an adapter");
        for shape in 0..SHAPES.len() {
            let mut stream = Stream::new(&gpu.device, 3);
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
            let init = |contents: &[u32], usage| {
                let contents = bytemuck::cast_slice(contents);
                gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
            };
            stream.uniform = init(&[u32::MAX; 4], BufferUsages::UNIFORM);
            let values = |seed: u32| (0..4_000 * 4).map(|i: u32| i.wrapping_mul(seed)).collect::<Vec<_>>();
            let contents = [3, 7, 11].map(values);
            let buffers = contents.each_ref().map(|values| init(values, usage));
            let slices = buffers.each_ref().map(|buffer| vec![buffer.slice(..)]);
            let runs = stream.bind(&gpu.device, &slices);
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            stream.record(&mut encoder, &runs, shape);
            gpu.queue.submit([encoder.finish()]);
            for (i, buffer) in buffers.iter().enumerate() {
                let read = crate::gpu::read::<u32>(&gpu, buffer);
                let expected =
                    contents[i].iter().zip(&contents[0]).map(|(own, grad)| if i == 0 { *own } else { own ^ grad });
                assert!(read.iter().copied().eq(expected), "stream {i} in shape {shape}");
            }
        }
    }
}
