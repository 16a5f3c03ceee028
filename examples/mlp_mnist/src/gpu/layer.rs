//! The kernels of one linear layer.

use std::ops::Range;

use wgpu_optim::wgpu;

use super::kernel::{Binding, Kernel};
use crate::model::Linear;

/// Rows and columns of the tile that one workgroup of `linear.wgsl` computes.
const TILE: usize = 32;

/// Threads of a workgroup of `bias.wgsl`.
const BIAS_THREADS: usize = 64;

/// What a layer reads and writes. Parameters and gradients are whole flat buffers.
pub(super) struct LayerBuffers<'a> {
    pub(super) parameters: &'a wgpu::Buffer,
    pub(super) grads: &'a wgpu::Buffer,
    pub(super) input: &'a wgpu::Buffer,
    pub(super) output: &'a wgpu::Buffer,
    /// The gradient by the output.
    pub(super) delta: &'a wgpu::Buffer,
    /// The gradient by the input, where a layer before this one needs it.
    pub(super) input_delta: Option<&'a wgpu::Buffer>,
}

pub(super) struct Shaders {
    linear: wgpu::ShaderModule,
    bias: wgpu::ShaderModule,
}

/// Compiles `linear.wgsl`.
pub fn linear(device: &wgpu::Device) -> wgpu::ShaderModule {
    device.create_shader_module(wgpu::include_wgsl!("../shaders/linear.wgsl"))
}

impl Shaders {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        Self { linear: linear(device), bias: device.create_shader_module(wgpu::include_wgsl!("../shaders/bias.wgsl")) }
    }
}

pub(super) struct Layer {
    inputs: usize,
    outputs: usize,
    forward: Kernel,
    grad_weight: Kernel,
    grad_bias: Kernel,
    grad_input: Option<Kernel>,
}

impl Layer {
    pub(super) fn new(device: &wgpu::Device, shaders: &Shaders, shape: &Linear, buffers: &LayerBuffers) -> Self {
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        // Each tensor starts at a multiple of 256 bytes, so it can be bound on its own.
        let part = |buffer, range: &Range<usize>| wgpu::BufferBinding {
            buffer,
            offset: range.start as u64 * 4,
            size: wgpu::BufferSize::new(range.len() as u64 * 4),
        };
        let weight = || Binding::Read(part(buffers.parameters, &shape.weight));
        let delta = || Binding::Read(whole(buffers.delta));
        let input = || Binding::Read(whole(buffers.input));
        let bias = Binding::Read(part(buffers.parameters, &shape.bias));
        let output = Binding::ReadWrite(whole(buffers.output));
        let weight_grad = Binding::ReadWrite(part(buffers.grads, &shape.weight));
        let bias_grad = Binding::ReadWrite(part(buffers.grads, &shape.bias));

        let sizes = [("IN", shape.inputs), ("OUT", shape.outputs)];
        let forward_constants = [sizes[0], sizes[1], ("RELU", shape.relu.into())];
        let linear = |entry_point: &str, constants: &[(&str, usize)], bindings: &[Binding]| {
            Kernel::new(device, &shaders.linear, entry_point, constants, bindings)
        };
        Self {
            inputs: shape.inputs,
            outputs: shape.outputs,
            forward: linear("forward", &forward_constants, &[input(), weight(), output, bias]),
            grad_weight: linear("grad_weight", &sizes, &[delta(), input(), weight_grad]),
            grad_bias: Kernel::new(device, &shaders.bias, "grad_bias", &sizes[1..], &[delta(), bias_grad]),
            grad_input: buffers.input_delta.map(|input_delta| {
                linear("grad_input", &sizes, &[delta(), weight(), Binding::ReadWrite(whole(input_delta)), input()])
            }),
        }
    }

    pub(super) fn forward(&self, pass: &mut wgpu::ComputePass, rows: usize) {
        self.forward.dispatch(pass, [self.outputs.div_ceil(TILE), rows.div_ceil(TILE)]);
    }

    pub(super) fn backward(&self, pass: &mut wgpu::ComputePass, rows: usize) {
        self.grad_weight.dispatch(pass, [self.inputs.div_ceil(TILE), self.outputs.div_ceil(TILE)]);
        self.grad_bias.dispatch(pass, [self.outputs.div_ceil(BIAS_THREADS), 1]);
        if let Some(grad_input) = &self.grad_input {
            grad_input.dispatch(pass, [self.inputs.div_ceil(TILE), rows.div_ceil(TILE)]);
        }
    }
}
