//! Counts the applied steps of each active row, and computes its bias corrections.

use super::bias_correction::BiasPowers;
use crate::rows::RowTable;

/// The count of applied steps of each row, and the bias corrections of its last.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowSteps {
    pub(crate) steps: Vec<u32>,
    pub(crate) bias_corrections: Vec<[f32; 4]>,
}

impl RowSteps {
    /// After so many applied steps of each row.
    pub(crate) fn new(rows: usize, powers: &BiasPowers, steps: u32) -> Self {
        Self { steps: vec![steps; rows], bias_corrections: vec![powers.bias_correction(steps); rows] }
    }
}

/// Counts the step for each active row.
pub(crate) fn row_steps(rows: &RowTable, powers: &BiasPowers, counts: &mut RowSteps) {
    let counts = counts.steps.iter_mut().zip(&mut counts.bias_corrections).zip(0..);
    for ((steps, bias_correction), _) in counts.filter(|(_, row)| rows.is_active(*row)) {
        // Wraps around, as on the device.
        *steps = steps.wrapping_add(1);
        *bias_correction = powers.bias_correction(*steps);
    }
}
