//! Perturbs the parameters along the gradient (SAM).

use crate::groups::GroupTable;
use crate::host::HostSlice;
use crate::params::{ParamSliceMut, SeenParams};
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
    mut params: ParamSliceMut<'_>,
) {
    let (mut of_grad, mut of_param) = (Vec::new(), Vec::new());
    for (from, to, span) in groups.active_runs(start as u32, (start + params.len()) as u32) {
        if !span.is_active() {
            continue;
        }
        for part in split_at_multiples(from as usize, to as usize, BUFFERED_LEN) {
            let grad = grads.load(part.clone(), &mut of_grad);
            let range = part.start - start..part.end - start;
            for (param, grad) in params.load_mut(range.clone(), &mut of_param).iter_mut().zip(grad) {
                let scale = sam.param_scale(*param);
                let direction = scale * grad * first * last;
                *param += scale * direction;
            }
            params.store_widened(range, &of_param, SeenParams::Alone);
        }
    }
}
