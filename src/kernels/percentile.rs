//! The percentile of the last gradient norms, as the maximum norm to clip at.

use crate::storage::INFINITE;

/// The last norms.
#[derive(Debug, Clone)]
pub(crate) struct Norms {
    /// Count of all norms so far.
    count: usize,
    norms: Vec<u32>,
}

impl Norms {
    pub(crate) fn new(window: u32) -> Self {
        Self { count: 0, norms: vec![0; window as usize] }
    }

    /// The device's table: the count, then the norms.
    #[cfg(feature = "safetensors")]
    pub(crate) fn table(&self) -> Vec<u32> {
        [&[u32::try_from(self.count).unwrap_or(u32::MAX)], &self.norms[..]].concat()
    }

    #[cfg(feature = "safetensors")]
    pub(crate) fn from_table(table: &[u32]) -> Self {
        Self { count: table[0] as usize, norms: table[1..].to_vec() }
    }

    /// Stores a norm if it `counts`; returns the norm below which `fraction` of the stored ones lie.
    pub(crate) fn max_norm_of(&mut self, fraction: f32, grad_norm: f32, counts: bool) -> f32 {
        let window = self.norms.len();
        if counts && grad_norm.to_bits() < INFINITE {
            self.norms[self.count % window] = grad_norm.to_bits();
            self.count += 1;
        }
        let count = self.count.min(window);
        if count == 0 {
            return f32::MAX;
        }
        let mut sorted = self.norms[..count].to_vec();
        sorted.sort_unstable();
        let position = fraction * (count - 1) as f32;
        let below = position as usize;
        let norm = |rank: usize| f32::from_bits(sorted[rank.min(count - 1)]);
        norm(below) + (position - below as f32) * (norm(below + 1) - norm(below))
    }
}
