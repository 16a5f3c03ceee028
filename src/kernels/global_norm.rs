//! The norm of all gradients and their finite check: one sum per tile.

use super::norm_order::NormOrder;
use super::scaled_sum::ScaledSum;
use super::tile_norm::tile_norm;
use crate::groups::GroupTable;

/// The sum over one tile; `start` is the flat index of its first element.
pub(crate) fn global_norm(order: NormOrder, grad: &[f32], start: usize, groups: &GroupTable) -> ScaledSum {
    tile_norm(order, grad, start, groups)
}
