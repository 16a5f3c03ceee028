// The sum of all tile sums. The kernel provides `LANES`.

import kernel::{LANES};
import package::device::workgroup_scaled_sum::{workgroup_sum};
import package::kernels::scaled_sum::{ScaledSum, combine, empty_scaled_sum};

@group(0) @binding(1) var<storage, read> tile_sums: array<ScaledSum>;

// The result is valid in lane 0.
fn tile_total(lane: u32) -> ScaledSum {
    var total = empty_scaled_sum();
    for (var i = lane; i < arrayLength(&tile_sums); i += LANES) {
        total = combine(total, tile_sums[i]);
    }
    return workgroup_sum(total, lane);
}
