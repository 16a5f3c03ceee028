//! Restores the stored training parameters.

use crate::groups::GroupTable;

/// Restores the parameters from flat index `start` on. Inactive elements stay unchanged.
pub(crate) fn restore_params(groups: &GroupTable, stored: &[f32], start: usize, params: &mut [f32]) {
    for (from, to, span) in groups.covering(start as u32, (start + params.len()) as u32) {
        if span.is_active() {
            let elements = from as usize..to as usize;
            params[elements.start - start..elements.end - start].copy_from_slice(&stored[elements]);
        }
    }
}
