//! The calls of wgpu that a step makes, made by hand on a device that runs nothing.

use std::sync::Arc;

use wgpu_optim::Layout;
use wgpu_optim::wgpu::{
    self, BindGroup, Buffer, BufferUsages, CommandEncoder, ComputePassDescriptor, ComputePipeline, Device, Queue,
};

/// A model of many small tensors in one flat buffer.
const TENSORS: usize = 200;
const ELEMENTS: usize = 500;

pub fn noop() -> (Device, Queue) {
    Device::noop(&wgpu::DeviceDescriptor::default())
}

pub fn buffer(device: &Device, size: u64, usage: BufferUsages) -> Buffer {
    device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

pub fn layout() -> Layout {
    let tensors = (0..TENSORS).map(|i| format!("tensor{i}"));
    tensors.fold(Layout::builder(), |layout, name| layout.tensor(name, &[ELEMENTS])).build().unwrap()
}

/// A layout of uniforms (u), storage to read (r) and to write (w).
fn layout_of(device: &Device, kinds: &str, first_is_dynamic: bool) -> wgpu::BindGroupLayout {
    let entry = |(binding, kind): (u32, char)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: match kind {
                'u' => wgpu::BufferBindingType::Uniform,
                kind => wgpu::BufferBindingType::Storage { read_only: kind == 'r' },
            },
            has_dynamic_offset: first_is_dynamic && binding == 0,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = (0..).zip(kinds.chars()).map(entry).collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
}

/// Kernels that bind as many buffers as the update of AdamW, and what a step writes and copies.
pub struct ByHand {
    pub gpu: (Device, Queue),
    /// Each with buffers bound for it: wgpu records what is already set no second time.
    kernels: [(ComputePipeline, BindGroup); 3],
    slot: BindGroup,
    buffers: Vec<Buffer>,
    notice: Arc<()>,
}

impl ByHand {
    pub fn new() -> Self {
        let gpu = noop();
        let source = "
            @group(0) @binding(0) var<uniform> a: vec4<u32>;
            @group(0) @binding(1) var<uniform> b: vec4<u32>;
            @group(0) @binding(2) var<storage, read> c: array<u32>;
            @group(0) @binding(3) var<storage, read_write> d: array<u32>;
            @group(0) @binding(4) var<storage, read_write> e: array<u32>;
            @group(0) @binding(5) var<storage, read> f: array<u32>;
            @group(0) @binding(6) var<storage, read_write> g: array<u32>;
            @group(0) @binding(7) var<storage, read_write> h: array<u32>;
            @group(1) @binding(0) var<uniform> i: vec4<u32>;
            @group(1) @binding(1) var<uniform> j: vec4<u32>;
            @compute @workgroup_size(1) fn main() {
                d[0] = a.x + b.x + c[0] + i.x + j.x; e[0] = f[0]; g[0] = 0u; h[0] = 0u;
            }";
        let source = wgpu::ShaderSource::Wgsl(source.into());
        let module = gpu.0.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let layouts = [layout_of(&gpu.0, "uurwwrww", false), layout_of(&gpu.0, "uu", true)];
        let layout = gpu.0.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &layouts.each_ref().map(Some),
            immediate_size: 0,
        });
        let pipeline = || {
            gpu.0.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: Some(&layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            })
        };
        let usage = BufferUsages::STORAGE | BufferUsages::UNIFORM | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffers: Vec<_> = (0..10).map(|_| buffer(&gpu.0, 1024, usage)).collect();
        let group = |layout: &wgpu::BindGroupLayout, buffers: &[Buffer]| {
            let entries = buffers.iter().zip(0..);
            let entries: Vec<_> = entries
                .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                .collect();
            gpu.0.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
        };
        let kernels = [(); 3].map(|()| (pipeline(), group(&layouts[0], &buffers[..8])));
        let slot = group(&layouts[1], &buffers[8..]);
        Self { gpu, kernels, slot, buffers, notice: Arc::default() }
    }

    /// So many dispatches in one pass, with one write before and the notice when all is done; after a single-pass step a copy.
    pub fn record(&self, encoder: &mut CommandEncoder, dispatches: usize) {
        let notice = (self.notice.clone(), 0u32);
        encoder.on_submitted_work_done(move || drop(notice));
        self.gpu.1.write_buffer(&self.buffers[8], 0, &[0; 64]);
        let descriptor = ComputePassDescriptor { label: Some("by hand"), timestamp_writes: None };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        pass.set_bind_group(1, &self.slot, &[0]);
        for (pipeline, bind_group) in &self.kernels[..dispatches] {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bind_group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
        drop(pass);
        if dispatches == 1 {
            encoder.copy_buffer_to_buffer(&self.buffers[3], 0, &self.buffers[1], 0, 128);
        }
    }
}
