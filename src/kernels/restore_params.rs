//! Restores the stored training parameters.

use crate::groups::GroupTable;
use crate::host::{HostSlice, HostSliceMut};

/// Restores all parameters. Inactive elements stay unchanged.
pub(crate) fn restore_params(groups: &GroupTable, stored: HostSlice<'_>, params: HostSliceMut<'_>) {
    let (len, unit) = (params.len() as u32, params.dtype().bytes(1) as usize);
    let (stored, params) = (stored.bytes(), params.bytes_mut());
    for (from, to, span) in groups.covering(0, len) {
        if span.is_active() {
            let bytes = unit * from as usize..unit * to as usize;
            params[bytes.clone()].copy_from_slice(&stored[bytes]);
        }
    }
}
