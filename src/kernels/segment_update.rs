use super::segment_reduce::{TensorRow, add};
use super::update_elements::WholeStep;
use crate::rule::Rule;
use crate::tile::reduce;

/// Adds the items of one segment up. `sums` has, for each of these items and others between them, whether it is one.
pub(crate) fn total(sums: impl Iterator<Item = (bool, [f32; 4])>) -> [f32; 4] {
    let mut lane_sums = [[0.0; 4]; 256];
    for (i, (is_own, sum)) in sums.enumerate() {
        lane_sums[i % 256] = add(lane_sums[i % 256], if is_own { sum } else { [0.0; 4] });
    }
    reduce(&mut lane_sums, add)
}

/// Adds the items of one tensor up and brings its states forward. Twin of `shaders/settle.wgsl`. `sums` has, for each of
/// these items and others between them, whether it is one.
pub(crate) fn settle(
    rule: &dyn Rule,
    step: &WholeStep,
    sums: impl ExactSizeIterator<Item = (bool, [f32; 4])>,
    tensor: &mut TensorRow,
) {
    if sums.len() == 0 {
        return;
    }
    tensor.measured = total(sums);
    rule.settle(&mut tensor.state, tensor.measured, step.lr, step.bias_correction, step.t);
}
