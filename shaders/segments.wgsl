// The segment table: the rule's tensor states and its sums over segments.

import segment_table::{segments};

// Row 0: counts of segments and of parts. Then three blocks with one row per segment: states, sums, ranges of parts.
// Then two rows per part: first element, end and segment; sums. A part is the elements of one segment in one tile.

fn state_row(segment: u32) -> u32 {
    return 1u + segment;
}

fn sums_row(segment: u32) -> u32 {
    return 1u + segments[0].x + segment;
}

fn parts_row(segment: u32) -> u32 {
    return 1u + 2u * segments[0].x + segment;
}

fn part_row(part: u32) -> u32 {
    return 1u + 3u * segments[0].x + 2u * part;
}

fn floats_at(row: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(segments[row]);
}
