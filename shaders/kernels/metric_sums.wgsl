// What a history keeps of a step beside the control block. Twin: src/observer.rs.

// Row 0: the numbers of segments and of items. Row 1: how many steps were executed when the last one was observed. Then
// two rows per segment of its sums, and one of its first item and the end of its items. Then three per item: first
// element, end and segment; and its part of the sums.
@group(0) @binding(18) var<storage, read_write> observed: array<vec4<u32>>;

fn sums_row_of(segment: u32) -> u32 {
    return 2u + 2u * segment;
}

fn items_row_of(segment: u32) -> u32 {
    return 2u + 2u * observed[0].x + segment;
}

fn row_of_item(item: u32) -> u32 {
    return 2u + 3u * observed[0].x + 3u * item;
}

// Squares of gradients, parameters and updates, and clipped elements; in x, those that the rule counts.
struct Sums {
    squares: vec4<f32>,
    counts: vec4<f32>,
}

fn sums_at(row: u32) -> Sums {
    return Sums(bitcast<vec4<f32>>(observed[row]), bitcast<vec4<f32>>(observed[row + 1u]));
}

// The sums over the workgroup, written by lane 0 if they are of anything.
fn keep_sums(row: u32, sums: Sums, lane: u32, exists: bool) {
    let squares = reduce(sums.squares, lane);
    // equivalent(delete): a race, which lane 0 always wins where one thread takes the lanes in turn
    workgroupBarrier();
    let counts = reduce(sums.counts, lane);
    if exists && lane == 0u {
        observed[row] = bitcast<vec4<u32>>(squares);
        observed[row + 1u] = bitcast<vec4<u32>>(counts);
    }
}
