//! Updates the factor of each line from its sum of squares.

use crate::factors::{Axis, FactorValues, Factors};
use crate::groups::GroupTable;
use crate::transform::TransformedRule;

use super::update_elements::StepContext;

/// Updates the factors of all tensors with active elements.
pub(crate) fn factor_update(
    values: &mut FactorValues,
    rule: &TransformedRule,
    factors: &Factors,
    groups: &GroupTable,
    context: &StepContext,
) {
    let Some(factored) = rule.factored() else { return };
    for axis in factors.active_tensors().flatten() {
        for line in 0..axis.lines {
            if !is_line_active(groups, axis, line) {
                continue;
            }
            let number = axis.first_value + line;
            let mean_sq = values.sums[number] / axis.len as f32;
            let value = &mut values.values[number];
            *value = factored.update_factor(*value, mean_sq, context.scalar_state, context.t);
        }
    }
}

/// Whether a line is part of an active row, or of several rows.
fn is_line_active(groups: &GroupTable, axis: &Axis, line: usize) -> bool {
    let Some(rows) = groups.rows() else { return true };
    let first = axis.start + line / axis.stride * axis.stride * axis.len + line % axis.stride;
    let [first, last] = [first, first + (axis.len - 1) * axis.stride].map(|element| rows.place(element as u32).row);
    first != last || rows.is_active(first)
}
