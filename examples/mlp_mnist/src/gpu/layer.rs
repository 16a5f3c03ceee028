//! The kernels of one linear layer.

use std::ops::Range;

use wgpu_optim::{Dtype, wgpu};

use super::kernel::{Binding, Kernel};
use crate::Result;
use crate::model::Linear;

/// Rows and columns of the tile that one workgroup of `linear.wgsl` computes.
const TILE: usize = 32;

/// Threads of a workgroup of `bias.wgsl`.
const BIAS_THREADS: usize = 64;

/// A buffer of the flat space, in a storage format.
#[derive(Clone, Copy)]
pub(super) struct Flat<'a> {
    buffer: &'a wgpu::Buffer,
    dtype: Dtype,
    /// `numbers.wgsl`'s number for the format.
    format: usize,
}

impl<'a> Flat<'a> {
    pub(super) fn new(buffer: &'a wgpu::Buffer, dtype: Dtype) -> Result<Self> {
        let known = [Dtype::F32, Dtype::Bf16, Dtype::F16];
        let format = known.iter().position(|&known| known == dtype);
        let format =
            format.ok_or_else(|| format!("the network has no kernels for parameters or gradients of {dtype:?}"))?;
        Ok(Self { buffer, dtype, format })
    }

    /// The binding of a tensor, and the kernel's constants for it: the format, and the tensor's first number. The binding
    /// begins at a multiple of the device's alignment, and has whole words.
    fn tensor(self, device: &wgpu::Device, range: &Range<usize>) -> (wgpu::BufferBinding<'a>, [usize; 2]) {
        let alignment = u64::from(device.limits().min_storage_buffer_offset_alignment);
        let [start, end] = [range.start, range.end].map(|at| self.dtype.bytes(at as u64));
        let offset = start / alignment * alignment;
        let size = wgpu::BufferSize::new((end - offset).next_multiple_of(4));
        let first = (start - offset) / self.dtype.bytes(1);
        (wgpu::BufferBinding { buffer: self.buffer, offset, size }, [self.format, first as usize])
    }
}

/// What a layer reads and writes.
pub(super) struct LayerBuffers<'a> {
    pub(super) parameters: Flat<'a>,
    pub(super) grads: Flat<'a>,
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
    with_numbers(device, "linear.wgsl", include_str!("../shaders/linear.wgsl"))
}

/// Compiles a shader that reads or writes numbers in their storage format.
fn with_numbers(device: &wgpu::Device, label: &str, text: &str) -> wgpu::ShaderModule {
    let modules = [
        include_str!("../../../../shaders/storage/bf16.wgsl"),
        include_str!("../../../../shaders/storage/f16.wgsl"),
        include_str!("../shaders/numbers.wgsl"),
        text,
    ];
    let source = wgpu::ShaderSource::Wgsl(modules.concat().into());
    device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(label), source })
}

impl Shaders {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        let bias = with_numbers(device, "bias.wgsl", include_str!("../shaders/bias.wgsl"));
        Self { linear: linear(device), bias }
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
        let (weight, of_weight) = buffers.parameters.tensor(device, &shape.weight);
        let (bias, of_bias) = buffers.parameters.tensor(device, &shape.bias);
        let (weight_grad, of_weight_grad) = buffers.grads.tensor(device, &shape.weight);
        let (bias_grad, of_bias_grad) = buffers.grads.tensor(device, &shape.bias);
        let weight = || Binding::Read(weight.clone());
        let delta = || Binding::Read(whole(buffers.delta));
        let input = || Binding::Read(whole(buffers.input));
        let output = Binding::ReadWrite(whole(buffers.output));

        let sizes = [("IN", shape.inputs), ("OUT", shape.outputs)];
        let b = [("B_FORMAT", of_weight[0]), ("B_FIRST", of_weight[1])];
        let extra = [("EXTRA_FORMAT", of_bias[0]), ("EXTRA_FIRST", of_bias[1])];
        let result = |[format, first]: [usize; 2]| [("RESULT_FORMAT", format), ("RESULT_FIRST", first)];
        let forward = [&sizes[..], &b, &extra, &[("RELU", shape.relu.into())]].concat();
        let grad_weight = [sizes, result(of_weight_grad)].concat();
        let grad_bias = [&sizes[1..], &result(of_bias_grad)].concat();
        let linear = |entry_point: &str, constants: &[(&str, usize)], bindings: &[Binding]| {
            Kernel::new(device, &shaders.linear, entry_point, constants, bindings)
        };
        Self {
            inputs: shape.inputs,
            outputs: shape.outputs,
            forward: linear("forward", &forward, &[input(), weight(), output, Binding::Read(bias)]),
            grad_weight: linear("grad_weight", &grad_weight, &[delta(), input(), Binding::ReadWrite(weight_grad)]),
            grad_bias: Kernel::new(
                device,
                &shaders.bias,
                "grad_bias",
                &grad_bias,
                &[delta(), Binding::ReadWrite(bias_grad)],
            ),
            grad_input: buffers.input_delta.map(|input_delta| {
                let bindings = [delta(), weight(), Binding::ReadWrite(whole(input_delta)), input()];
                linear("grad_input", &[sizes, b].concat(), &bindings)
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
