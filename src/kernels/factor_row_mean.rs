//! The mean over the row factors of each matrix.

use crate::factors::{FactorValues, Factors};
use crate::tile::{add, workgroup_sum};
use crate::transform::TransformedRule;

pub(crate) fn factor_row_mean(values: &mut FactorValues, rule: &TransformedRule, factors: &Factors) {
    let Some(factored) = rule.factored() else { return };
    for axes in factors.tensors().filter(|axes| axes[1].lines > 0) {
        let (rows, len) = (&axes[0], axes[1].len);
        let row_vars = &values.values[rows.first_value..rows.first_value + rows.lines];
        for (mean, row_vars) in values.means[rows.first_matrix..].iter_mut().zip(row_vars.chunks_exact(len)) {
            let mut lane_sums = [[0.0; 4]; 256];
            for (i, row_var) in row_vars.iter().enumerate() {
                lane_sums[i % 256][0] += row_var;
            }
            *mean = factored.floor_mean(workgroup_sum(&mut lane_sums, add)[0] / len as f32);
        }
    }
}
