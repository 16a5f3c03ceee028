//! Where the states of a rule lie in memory.

use std::ops::{Deref, DerefMut};

use crate::simd::LINE;

/// Of the smallest pages. Addresses that differ by a multiple of this are of the same set of the first cache.
const PAGE: usize = 4096;
/// Bytes from the beginning of one state in its page to that of the next in its own.
const SHIFT: usize = 11 * LINE;

/// One state over the flat space.
///
/// A step goes through parameters, gradients and states side by side. Large allocations all begin at the same place of a
/// page, so that what is read and written at a time would be in one set of the first cache; there, processors that tell
/// lines apart by a few bits of their addresses take some for each other, and each access throws the other line out. So
/// states begin at different places, though at the same one of a cache line as their allocations, and so as vectors of the
/// caller's most likely do: what is aligned for one stream is aligned for all.
#[derive(Debug)]
pub(super) struct State {
    memory: Vec<f32>,
    start: usize,
    len: usize,
    /// Of this state among those of the rule.
    number: usize,
}

impl State {
    pub(super) fn new(number: usize, value: f32, len: usize) -> Self {
        let memory = vec![value; len + PAGE / 4];
        let allocated = memory.as_ptr().addr();
        let bytes = ((number + 1) * SHIFT + allocated % LINE).wrapping_sub(allocated) % PAGE;
        Self { memory, start: bytes / 4, len, number }
    }
}

impl Deref for State {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.start..][..self.len]
    }
}

impl DerefMut for State {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
    }
}

impl Clone for State {
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
        let states = [0, 1, 2, 3, 4].map(|number| State::new(number, number as f32, 1 << 20));
        for states in [&states, &states.clone()] {
            let lines = states.each_ref().map(|state| state.as_ptr().addr() % PAGE / LINE);
            assert_eq!(lines, [11, 22, 33, 44, 55]);
            assert!(states.iter().zip(0..).all(|(state, number)| **state == vec![number as f32; 1 << 20]));
        }
    }

    #[test]
    fn a_state_begins_at_the_place_of_a_line_where_its_allocation_does() {
        let state = State::new(2, 0.0, 1 << 20);
        assert_eq!(state.as_ptr().addr() % LINE, state.memory.as_ptr().addr() % LINE);
    }
}
