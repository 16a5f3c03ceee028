//! All points of a plane in one submission.

use wgpu_optim::Gpu;
use wgpu_optim::wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu_optim::wgpu::{self, BufferUsages};

use super::{Layers, Plane, pixels};
use crate::Result;
use examples_common::read::read;
use mlp_mnist::data::Examples;
use mlp_mnist::gpu::kernel::{Binding, Kernel, batch_layout};
use mlp_mnist::gpu::layer::linear;

/// Rows and columns of the tile that one workgroup of `linear.wgsl` computes.
const TILE: usize = 32;

pub(super) fn losses(gpu: &Gpu, plane: &Plane, layers: Layers, examples: &Examples) -> Result<Vec<f32>> {
    let device = &gpu.device;
    let upload = |contents: &[u8], usage| {
        device.create_buffer_init(&BufferInitDescriptor { label: Some("plane"), contents, usage })
    };
    let create = |elements: usize, usage| {
        let size = elements as u64 * 4;
        device.create_buffer(&wgpu::BufferDescriptor { label: Some("plane"), size, usage, mapped_at_creation: false })
    };
    // A part of a buffer is bound from a multiple of 256 bytes.
    let stride = (examples.len() * layers.hidden.outputs).next_multiple_of(64);
    let x = pixels(examples);
    let largest = 4 * x.len().max(3 * stride).max(3 * plane.origin.len()) as u64;
    let limits = device.limits();
    if largest > limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) {
        return Err(format!("{largest} bytes are more than this device binds: give fewer --examples").into());
    }
    let x = upload(bytemuck::cast_slice(&x), BufferUsages::STORAGE);
    let labels: Vec<u32> = examples.labels.iter().map(|&label| label.into()).collect();
    let labels = upload(bytemuck::cast_slice(&labels), BufferUsages::STORAGE);
    let parameters = upload(bytemuck::cast_slice(&plane.vectors().concat()), BufferUsages::STORAGE);
    let places: Vec<f32> = [0, 1].iter().flat_map(|&direction| plane.places(direction)).map(|at| at as f32).collect();
    let places = upload(bytemuck::cast_slice(&places), BufferUsages::STORAGE);
    let z = create(3 * stride, BufferUsages::STORAGE);
    let losses = create(plane.side * plane.side, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
    let batch = upload(bytemuck::cast_slice(&[0, examples.len() as u32]), BufferUsages::UNIFORM);
    let batch = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("batch"),
        layout: &batch_layout(device),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: batch.as_entire_binding() }],
    });

    let linear = linear(device);
    let module = device.create_shader_module(wgpu::include_wgsl!("../plane.wgsl"));
    let part = |buffer, first: usize, elements: usize| wgpu::BufferBinding {
        buffer,
        offset: first as u64 * 4,
        size: wgpu::BufferSize::new(elements as u64 * 4),
    };
    let whole = wgpu::Buffer::as_entire_buffer_binding;
    let hidden = [0, 1, 2].map(|vector| {
        let first = vector * plane.origin.len();
        let (weight, bias) = (&layers.hidden.weight, &layers.hidden.bias);
        let bindings = [
            Binding::Read(whole(&x)),
            Binding::Read(part(&parameters, first + weight.start, weight.len())),
            Binding::ReadWrite(part(&z, vector * stride, stride)),
            Binding::Read(part(&parameters, first + bias.start, bias.len())),
        ];
        let sizes = [("IN", layers.hidden.inputs), ("OUT", layers.hidden.outputs)];
        Kernel::new(device, &linear, "forward", &sizes, &bindings)
    });
    let constants = [
        ("HIDDEN", layers.hidden.outputs),
        ("Z", stride),
        ("PARAMETERS", plane.origin.len()),
        ("WEIGHT", layers.last.weight.start),
        ("BIAS", layers.last.bias.start),
    ];
    let bindings = [
        Binding::Read(whole(&z)),
        Binding::Read(whole(&parameters)),
        Binding::Read(whole(&labels)),
        Binding::Read(whole(&places)),
        Binding::ReadWrite(whole(&losses)),
    ];
    let points = Kernel::new(device, &module, "plane", &constants, &bindings);

    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_bind_group(0, &batch, &[0]);
        for kernel in &hidden {
            kernel.dispatch(&mut pass, [layers.hidden.outputs.div_ceil(TILE), examples.len().div_ceil(TILE)]);
        }
        points.dispatch(&mut pass, [plane.side; 2]);
    }
    gpu.queue.submit([encoder.finish()]);
    read(gpu, &losses)
}
