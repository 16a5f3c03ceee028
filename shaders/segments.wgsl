// The table of segments: sums over each, and the state that a rule keeps per tensor.

import segment_table::{segments};

// Row 0: numbers of segments and of parts. Then per segment a row of its state, a row of its sums, and a row of the
// range of its parts. Then two rows per part: first element, end and segment; and its sums.
// A part is the elements of one segment in one tile.

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
