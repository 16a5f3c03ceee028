//! bf16 gradients for tests.

use wgpu_optim::Gpu;
pub use wgpu_optim::half::bf16 as Number;
use wgpu_optim::wgpu::{Buffer, BufferUsages};

/// Rounds numbers to the nearest bf16.
pub fn round(values: &[f32]) -> Vec<Number> {
    values.iter().map(|&value| Number::from_f32(value)).collect()
}

/// Numbers that bf16 stores exactly. Panics where one is not.
pub fn exact(values: &[f32]) -> Vec<Number> {
    for value in values {
        assert!(value.to_bits().trailing_zeros() >= 16, "{value} is no bf16");
    }
    round(values)
}

/// The f32 of the same values.
pub fn widen(values: &[Number]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

/// A storage buffer of whole words; where a half word is left it holds NaN.
pub fn upload(gpu: &Gpu, values: &[Number]) -> Buffer {
    let mut bits: Vec<u16> = values.iter().map(|value| value.to_bits()).collect();
    bits.resize(bits.len().next_multiple_of(2), Number::NAN.to_bits());
    let buffer = super::storage(gpu, 2 * bits.len() as u64, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
    gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&bits));
    buffer
}
