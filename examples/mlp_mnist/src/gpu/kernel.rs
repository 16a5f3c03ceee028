//! One compute shader entry point with its constants and buffers.

use wgpu_optim::wgpu;

/// A buffer, or a part of it, as a kernel sees it.
pub enum Binding<'a> {
    Read(wgpu::BufferBinding<'a>),
    ReadWrite(wgpu::BufferBinding<'a>),
}

/// Group 0 of every kernel: the batch, at an offset chosen for each step.
pub fn batch_layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("batch"),
        entries: &[wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: true,
                min_binding_size: None,
            },
            count: None,
        }],
    })
}

pub struct Kernel {
    pipeline: wgpu::ComputePipeline,
    buffers: wgpu::BindGroup,
}

impl Kernel {
    /// `constants` are the shader's overrides; `bindings` are group 1 from binding 0 upwards.
    pub fn new(
        device: &wgpu::Device,
        module: &wgpu::ShaderModule,
        entry_point: &str,
        constants: &[(&str, usize)],
        bindings: &[Binding],
    ) -> Self {
        let layout_entries: Vec<_> = bindings
            .iter()
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: matches!(buffer, Binding::Read(_)) },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let group_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(entry_point),
            entries: &layout_entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(entry_point),
            bind_group_layouts: &[Some(&batch_layout(device)), Some(&group_layout)],
            immediate_size: 0,
        });
        let constants: Vec<_> = constants.iter().map(|&(name, value)| (name, value as f64)).collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry_point),
            layout: Some(&pipeline_layout),
            module,
            entry_point: Some(entry_point),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        let entries: Vec<_> = bindings
            .iter()
            .zip(0..)
            .map(|(buffer, binding)| {
                let (Binding::Read(buffer) | Binding::ReadWrite(buffer)) = buffer;
                wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(buffer.clone()) }
            })
            .collect();
        let buffers = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(entry_point),
            layout: &group_layout,
            entries: &entries,
        });
        Self { pipeline, buffers }
    }

    /// Records the kernel over `grid` workgroups. Group 0 must be set.
    pub fn dispatch(&self, pass: &mut wgpu::ComputePass, grid: [usize; 2]) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(1, &self.buffers, &[]);
        pass.dispatch_workgroups(grid[0] as u32, grid[1] as u32, 1);
    }
}
