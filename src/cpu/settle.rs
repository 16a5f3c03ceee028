use super::measure::{TensorRow, add, reduce};
use super::update::WholeStep;
use crate::rule::Rule;

/// Adds the items of one tensor up and brings its states forward. Twin of `shaders/settle.wgsl`.
pub(crate) fn settle(rule: &dyn Rule, step: &WholeStep, items: &[[f32; 4]], tensor: &mut TensorRow) {
    if items.is_empty() {
        return;
    }
    let mut lane_sums = [[0.0; 4]; 256];
    for (i, &item) in items.iter().enumerate() {
        lane_sums[i % 256] = add(lane_sums[i % 256], item);
    }
    tensor.measured = reduce(lane_sums);
    rule.settle(&mut tensor.state, tensor.measured, step.lr, step.bias_correction, step.t);
}
