//! The norm of the gradients that SAM perturbs along: one sum per tile.

use super::norm_order::NormOrder;
use super::scaled_sum::ScaledSum;
use super::tile_norm::tile_norm;
use crate::groups::GroupTable;
use crate::transform::Sam;

/// The sum over one tile; `start` is the flat index of its first element.
pub(crate) fn sam_norm(sam: &Sam, param: &[f32], grad: &[f32], start: usize, groups: &GroupTable) -> ScaledSum {
    if !sam.is_adaptive() {
        return tile_norm(NormOrder::Two, grad, start, groups);
    }
    let scaled: Vec<f32> = param.iter().zip(grad).map(|(&param, &grad)| sam.param_scale(param) * grad).collect();
    tile_norm(NormOrder::Two, &scaled, start, groups)
}
