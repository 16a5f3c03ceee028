//! Updates the factor of each line from its sum of squares.

use crate::factors::{FactorValues, Factors};
use crate::transform::TransformedRule;

use super::update_elements::StepContext;

/// Updates the factors of all tensors with active elements.
pub(crate) fn factor_update(
    values: &mut FactorValues,
    rule: &TransformedRule,
    factors: &Factors,
    context: &StepContext,
) {
    let Some(factored) = rule.factored() else { return };
    for axis in factors.active_tensors().flatten() {
        for line in axis.first_value..axis.first_value + axis.lines {
            let mean_sq = values.sums[line] / axis.len as f32;
            let value = &mut values.values[line];
            *value = factored.update_factor(*value, mean_sq, context.scalar_state, context.t);
        }
    }
}
