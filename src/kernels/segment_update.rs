//! The rule's sums over segments, second half: adds the parts of each segment and updates its tensor state.

use super::update_elements::{SegmentRow, StepContext};
use crate::tile::{add, workgroup_sum};
use crate::transform::TransformedRule;

/// The sum of the parts of one segment. `sums` holds the parts of a range, each with whether it belongs to the segment.
pub(crate) fn sum_of_parts(sums: impl Iterator<Item = (bool, [f32; 4])>) -> [f32; 4] {
    let mut lane_sums = [[0.0; 4]; 256];
    for (i, (is_own, sum)) in sums.enumerate() {
        lane_sums[i % 256] = add(lane_sums[i % 256], if is_own { sum } else { [0.0; 4] });
    }
    workgroup_sum(&mut lane_sums, add)
}

/// Updates the row of one segment. The state of a segment without parts stays unchanged.
pub(crate) fn segment_update(
    rule: &TransformedRule,
    context: &StepContext,
    sums: impl ExactSizeIterator<Item = (bool, [f32; 4])>,
    row: &mut SegmentRow,
) {
    if sums.len() == 0 {
        return;
    }
    row.sums = sum_of_parts(sums);
    if let Some(tensor_state) = rule.tensor_state() {
        let StepContext { lr, bias_correction, t, is_first, .. } = *context;
        tensor_state.update_tensor_state(&mut row.state, row.sums, lr, bias_correction, t, is_first);
    }
}
