//! Host memory of states.

use std::ops::{Deref, DerefMut};

use half::{bf16, f16};

use crate::host::{HostSlice, HostSliceMut};
use crate::simd::CACHE_LINE_BYTES;
use crate::storage::Dtype;

/// Bytes of the smallest page. Addresses that differ by a multiple of it share a set of the first-level cache.
const PAGE_BYTES: usize = 4096;
/// Bytes between the starts of consecutive states within their pages.
const STATE_STAGGER_BYTES: usize = 11 * CACHE_LINE_BYTES;

/// One state over the flat space.
///
/// A step reads parameters, gradients and states side by side. Large allocations all begin at the same place of a page: their
/// elements would share one set of the first-level cache and evict each other. So states begin at different places of a page,
/// but at the same place of a cache line as their allocations, as the caller's vectors do: what is aligned for one stream is
/// aligned for all.
#[derive(Debug)]
pub(crate) struct StateMemory<T> {
    memory: Vec<T>,
    start: usize,
    len: usize,
    /// Number among the states of the rule.
    number: usize,
}

impl<T: Copy> StateMemory<T> {
    fn new(number: usize, value: T, len: usize) -> Self {
        let memory = vec![value; len + PAGE_BYTES / size_of::<T>()];
        let allocated = memory.as_ptr().addr();
        let bytes =
            ((number + 1) * STATE_STAGGER_BYTES + allocated % CACHE_LINE_BYTES).wrapping_sub(allocated) % PAGE_BYTES;
        Self { memory, start: bytes / size_of::<T>(), len, number }
    }
}

impl<T> Deref for StateMemory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.start..][..self.len]
    }
}

impl<T> DerefMut for StateMemory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..][..self.len]
    }
}

impl<T: Copy + Default> Clone for StateMemory<T> {
    fn clone(&self) -> Self {
        let mut clone = Self::new(self.number, T::default(), self.len);
        clone.copy_from_slice(self);
        clone
    }
}

/// The numbers of one stream that the engine owns, in their storage format.
#[derive(Debug, Clone)]
pub(crate) enum Numbers {
    F32(StateMemory<f32>),
    Bf16(StateMemory<bf16>),
    F16(StateMemory<f16>),
    I16(StateMemory<i16>),
    Dynamic8(StateMemory<u8>),
    Companded8(StateMemory<u8>),
}

impl Numbers {
    /// `len` numbers of a value, for the stream of that number.
    pub(crate) fn new(number: usize, dtype: Dtype, value: f32, len: usize) -> Self {
        match dtype {
            Dtype::F32 => Self::F32(StateMemory::new(number, value, len)),
            Dtype::Bf16 => Self::Bf16(StateMemory::new(number, bf16::from_f32(value), len)),
            Dtype::F16 => Self::F16(StateMemory::new(number, f16::from_f32(value), len)),
            Dtype::I16 => Self::I16(StateMemory::new(number, value as i16, len)),
            Dtype::Dynamic8 => Self::Dynamic8(StateMemory::new(number, value as u8, len)),
            Dtype::Companded8 => Self::Companded8(StateMemory::new(number, value as u8, len)),
            Dtype::F32Per256 | Dtype::F32Per32 => {
                Self::F32(StateMemory::new(number, value, len.div_ceil(dtype.block_len() as usize)))
            }
        }
    }

    /// A copy of a program's numbers.
    pub(super) fn copy_of(numbers: HostSlice<'_>) -> Self {
        let mut copy = Self::new(0, numbers.dtype(), 0.0, numbers.len());
        copy.as_mut().bytes_mut().copy_from_slice(numbers.bytes());
        copy
    }

    pub(crate) fn as_slice(&self) -> HostSlice<'_> {
        match self {
            Self::F32(values) => HostSlice::F32(values),
            Self::Bf16(values) => HostSlice::Bf16(values),
            Self::F16(values) => HostSlice::F16(values),
            Self::I16(values) => HostSlice::I16(values),
            Self::Dynamic8(codes) => HostSlice::Dynamic8(codes),
            Self::Companded8(codes) => HostSlice::Companded8(codes),
        }
    }

    pub(crate) fn as_mut(&mut self) -> HostSliceMut<'_> {
        match self {
            Self::F32(values) => HostSliceMut::F32(values),
            Self::Bf16(values) => HostSliceMut::Bf16(values),
            Self::F16(values) => HostSliceMut::F16(values),
            Self::I16(values) => HostSliceMut::I16(values),
            Self::Dynamic8(codes) => HostSliceMut::Dynamic8(codes),
            Self::Companded8(codes) => HostSliceMut::Companded8(codes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_states_begin_at_the_same_place_of_a_page_nor_do_their_copies() {
        let states = [0, 1, 2, 3, 4].map(|number| StateMemory::new(number, number as f32, 1 << 20));
        for states in [&states, &states.clone()] {
            let lines = states.each_ref().map(|state| state.as_ptr().addr() % PAGE_BYTES / CACHE_LINE_BYTES);
            assert_eq!(lines, [11, 22, 33, 44, 55]);
            assert!(states.iter().zip(0..).all(|(state, number)| **state == vec![number as f32; 1 << 20]));
        }
    }

    #[test]
    fn a_state_begins_at_the_place_of_a_line_where_its_allocation_does() {
        let state = StateMemory::new(2, 0.0, 1 << 20);
        assert_eq!(state.as_ptr().addr() % CACHE_LINE_BYTES, state.memory.as_ptr().addr() % CACHE_LINE_BYTES);
    }
}
