//! Adds weighted gradients to the accumulator.

use crate::groups::GroupTable;
use crate::host::HostSlice;

/// Elements that are widened at a time.
const BUFFERED_LEN: usize = 1024;

/// Adds the gradients from flat index `start` on. Inactive elements stay unchanged.
pub(crate) fn accumulate(
    groups: &GroupTable,
    weight: f32,
    grads: HostSlice<'_>,
    start: usize,
    accumulated: &mut [f32],
) {
    let mut scratch = Vec::new();
    for (from, to, span) in groups.active_runs(start as u32, (start + accumulated.len()) as u32) {
        if !span.is_active() {
            continue;
        }
        for part in crate::tile::split_at_multiples(from as usize, to as usize, BUFFERED_LEN) {
            let grad = grads.load(part.clone(), &mut scratch);
            for (sum, grad) in accumulated[part.start - start..part.end - start].iter_mut().zip(grad) {
                *sum += weight * grad;
            }
        }
    }
}
