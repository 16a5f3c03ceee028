// Which splats stay, and which become two. CPU reference: src/growth.rs.
// In: splats, scores, live. Out: live and the rows after the growth; scores of splats that go become zero.
// Grid: one workgroup; each lane has neighbouring rows.

override CAPACITY: u32;

@group(0) @binding(0) var<storage, read> splats: array<f32>;
@group(0) @binding(1) var<storage, read_write> scores: array<f32>;
@group(0) @binding(2) var<storage, read_write> live: u32;
// Old row of each row of the capacity; -1 for those without a splat.
@group(0) @binding(3) var<storage, read_write> sources: array<i32>;
// The same for states; -1 for children too.
@group(0) @binding(4) var<storage, read_write> state_sources: array<i32>;
// New row of the parent of each child; -1 for all other rows.
@group(0) @binding(5) var<storage, read_write> parents: array<i32>;

// Share of the splats that become two.
const SHARE = 0.25;
// Opacity times the brightest channel of a splat that nobody sees.
const MIN_LIGHT = 1.0 / 512.0;

const LANES = 256u;
var<workgroup> lane_counts: array<u32, LANES>;

fn is_visible(row: u32) -> bool {
    let base = row * COLUMNS;
    let colour = abs(vec3(splats[base + COLOUR], splats[base + COLOUR + 1u], splats[base + COLOUR + 2u]));
    return abs(splats[base + OPACITY]) * max(max(colour.x, colour.y), colour.z) >= MIN_LIGHT;
}

// Scores of the lane's rows with larger bits. Positive floats have the order of their bits.
fn count_above(rows: vec2<u32>, bits: u32) -> u32 {
    var count = 0u;
    for (var row = rows.x; row < rows.y; row++) {
        count += u32(bitcast<u32>(scores[row]) > bits);
    }
    return count;
}

// Sum of the counts of all lanes, and of the lanes before this one.
fn sum_counts(lane: u32, count: u32) -> vec2<u32> {
    workgroupBarrier();
    lane_counts[lane] = count;
    workgroupBarrier();
    var sums = vec2(0u);
    for (var i = 0u; i < LANES; i++) {
        sums += vec2(lane_counts[i], select(0u, lane_counts[i], i < lane));
    }
    return sums;
}

@compute @workgroup_size(LANES)
fn growth(@builtin(local_invocation_index) lane: u32) {
    let lane_rows = (CAPACITY + LANES - 1u) / LANES;
    let first = lane * lane_rows;
    let rows = min(vec2(first, first + lane_rows), vec2(live));
    for (var row = rows.x; row < rows.y; row++) {
        if !is_visible(row) || !(scores[row] > 0.0) {
            scores[row] = 0.0;
        }
    }
    let kept = sum_counts(lane, count_above(rows, 0u));
    let children = min(u32(f32(kept.x) * SHARE), CAPACITY - kept.x);
    // Smallest bits with at most that many scores above them; those of infinity have none.
    var low = 0u;
    var high = 0x7f800000u;
    for (var i = 0; i < 31; i++) {
        let middle = (low + high) / 2u;
        if sum_counts(lane, count_above(rows, middle)).x <= children {
            high = middle;
        } else {
            low = middle + 1u;
        }
    }
    let divided = sum_counts(lane, count_above(rows, high));

    var row = kept.y;
    var child = kept.x + divided.y;
    for (var source = rows.x; source < rows.y; source++) {
        let bits = bitcast<u32>(scores[source]);
        if bits == 0u {
            continue;
        }
        sources[row] = i32(source);
        state_sources[row] = i32(source);
        parents[row] = -1;
        if bits > high {
            sources[child] = i32(source);
            state_sources[child] = -1;
            parents[child] = i32(row);
            child += 1u;
        }
        row += 1u;
    }
    let end = kept.x + divided.x;
    for (var row = max(first, end); row < min(first + lane_rows, CAPACITY); row++) {
        sources[row] = -1;
        state_sources[row] = -1;
        parents[row] = -1;
    }
    if lane == 0u {
        live = end;
    }
}
