//! Numbers of any storage format in whole words, as both engines take them.

use wgpu_optim::half::{bf16, f16};
use wgpu_optim::wgpu::BufferUsages;
use wgpu_optim::wgpu::{Buffer, BufferSlice};
use wgpu_optim::{Dtype, Gpu, HostSlice, HostSliceMut};

/// Numbers of one format. A half word that is left holds a canary.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    pub dtype: Dtype,
    pub len: usize,
    pub bits: Vec<u32>,
}

const CANARY: u16 = 0xabcd;

impl Words {
    /// The nearest numbers to f32.
    pub fn nearest(dtype: Dtype, values: &[f32]) -> Self {
        let halves = |half: &dyn Fn(f32) -> u16| {
            let mut halves: Vec<u16> = values.iter().map(|&value| half(value)).collect();
            halves.resize(halves.len().next_multiple_of(2), CANARY);
            bytemuck::pod_collect_to_vec(&halves)
        };
        let words = match dtype {
            Dtype::F32 => values.iter().map(|value| value.to_bits()).collect(),
            Dtype::Bf16 => halves(&|value| bf16::from_f32(value).to_bits()),
            Dtype::F16 => halves(&|value| f16::from_f32(value).to_bits()),
            dtype => panic!("{dtype:?}"),
        };
        Self { dtype, len: values.len(), bits: words }
    }

    pub fn as_slice(&self) -> HostSlice<'_> {
        match self.dtype {
            Dtype::F32 => HostSlice::F32(&bytemuck::cast_slice(&self.bits)[..self.len]),
            Dtype::Bf16 => HostSlice::Bf16(&bytemuck::cast_slice(&self.bits)[..self.len]),
            Dtype::F16 => HostSlice::F16(&bytemuck::cast_slice(&self.bits)[..self.len]),
            dtype => panic!("{dtype:?}"),
        }
    }

    pub fn as_mut(&mut self) -> HostSliceMut<'_> {
        match self.dtype {
            Dtype::F32 => HostSliceMut::F32(&mut bytemuck::cast_slice_mut(&mut self.bits)[..self.len]),
            Dtype::Bf16 => HostSliceMut::Bf16(&mut bytemuck::cast_slice_mut(&mut self.bits)[..self.len]),
            Dtype::F16 => HostSliceMut::F16(&mut bytemuck::cast_slice_mut(&mut self.bits)[..self.len]),
            dtype => panic!("{dtype:?}"),
        }
    }

    pub fn to_f32(&self) -> Vec<f32> {
        self.as_slice().to_f32()
    }

    /// A storage buffer with the words.
    pub fn upload(&self, gpu: &Gpu) -> Buffer {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let buffer = super::storage(gpu, 4 * self.bits.len() as u64, usage);
        gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&self.bits));
        buffer
    }
}

/// The words of a slice of a buffer, the last one whole.
pub fn download_words(gpu: &Gpu, slice: BufferSlice<'_>) -> Vec<u32> {
    let end = (slice.offset() + slice.size()).next_multiple_of(4);
    let words = super::device::download_slice(gpu, slice.buffer().slice(slice.offset()..end));
    words.into_iter().map(f32::to_bits).collect()
}
