// The sum of squared errors, and the number of splats.
// In: squares of each workgroup of `forward`, live. Out: statistics.
// Grid: one workgroup.

struct Statistics {
    squares: f32,
    splats: u32,
}

@group(0) @binding(0) var<storage, read> squares: array<f32>;
@group(0) @binding(1) var<storage, read> live: u32;
@group(0) @binding(2) var<storage, read_write> result: Statistics;

const LANES = 64u;
var<workgroup> lane_sums: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn statistics(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < arrayLength(&squares); i += LANES) {
        sum += squares[i];
    }
    lane_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        var total = 0.0;
        for (var i = 0u; i < LANES; i++) {
            total += lane_sums[i];
        }
        result = Statistics(total, live);
    }
}
