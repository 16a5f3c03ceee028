//! A kernel with its buffers and its grid.

use wgpu_optim::wgpu;

pub(super) struct Kernel {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    grid: [u32; 2],
}

impl Kernel {
    /// The entry point of that name; buffers in the order of their bindings.
    pub(super) fn new(
        device: &wgpu::Device,
        (name, source): (&str, &str),
        constants: &[(&str, f64)],
        buffers: &[&wgpu::Buffer],
        grid: [u32; 2],
    ) -> Self {
        let source = [include_str!("../shaders/splat.wgsl"), source].concat();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: None,
            module: &module,
            entry_point: Some(name),
            compilation_options: wgpu::PipelineCompilationOptions { constants, ..Default::default() },
            cache: None,
        });
        let bound = buffers.iter().zip(0..);
        let entries: Vec<_> = bound
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Self { pipeline, group, grid }
    }

    pub(super) fn dispatch(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
    }
}
