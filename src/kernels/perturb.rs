//! Perturbs the parameters along the gradient (SAM).

use crate::groups::GroupTable;
use crate::storage::HostSlice;
use crate::tile::split_at_multiples;
use crate::transform::Sam;

/// Elements that are widened at a time.
const BUFFERED_LEN: usize = 1024;

/// Moves the parameters from flat index `start` on. Inactive elements stay unchanged.
pub(crate) fn perturb(
    sam: &Sam,
    [first, last]: [f32; 2],
    groups: &GroupTable,
    grads: HostSlice<'_>,
    start: usize,
    params: &mut [f32],
) {
    let mut scratch = Vec::new();
    for (from, to, span) in groups.active_runs(start as u32, (start + params.len()) as u32) {
        if !span.is_active() {
            continue;
        }
        for part in split_at_multiples(from as usize, to as usize, BUFFERED_LEN) {
            let grad = grads.load(part.clone(), &mut scratch);
            for (param, grad) in params[part.start - start..part.end - start].iter_mut().zip(grad) {
                let scale = sam.param_scale(*param);
                let direction = scale * grad * first * last;
                *param += scale * direction;
            }
        }
    }
}
