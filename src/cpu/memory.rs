//! Host memory of states.

use std::ops::{Deref, DerefMut};

use crate::simd::CACHE_LINE_BYTES;

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
pub(super) struct StateMemory {
    memory: Vec<f32>,
    start: usize,
    len: usize,
    /// Number among the states of the rule.
    number: usize,
}

impl StateMemory {
    pub(super) fn new(number: usize, value: f32, len: usize) -> Self {
        let memory = vec![value; len + PAGE_BYTES / 4];
        let allocated = memory.as_ptr().addr();
        let bytes =
            ((number + 1) * STATE_STAGGER_BYTES + allocated % CACHE_LINE_BYTES).wrapping_sub(allocated) % PAGE_BYTES;
        Self { memory, start: bytes / 4, len, number }
    }
}

impl Deref for StateMemory {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.start..][..self.len]
    }
}

impl DerefMut for StateMemory {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
    }
}

impl Clone for StateMemory {
    fn clone(&self) -> Self {
        let mut clone = Self::new(self.number, 0.0, self.len);
        clone.copy_from_slice(self);
        clone
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
