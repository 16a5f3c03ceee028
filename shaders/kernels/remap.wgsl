// Moves the rows of one stream: each becomes the row that a table of indices names, or a new one.
//
// In: the old values, the indices, the tensors, values of new rows. Out: the stream, and whether an index was invalid.
// Grid: one workgroup of 256 per 1,024 elements of the target chunk. Source and target may each be cut into chunks: a
// dispatch writes the elements whose source lies in its source chunk.

import package::device::control_uniform::{control};

struct Remap {
    // The target chunk: first element, number of elements, offset in its binding, offset of the new values in theirs.
    start: u32,
    length: u32,
    target_shift: u32,
    fresh_shift: u32,
    // The source chunk.
    source_start: u32,
    source_length: u32,
    source_shift: u32,
    // The tensors of the stream: first and count.
    first_tensor: u32,
    tensors: u32,
    // Values of new rows: KEEP, FILL, COPY or SCALE.
    fresh: u32,
    // Index of the bias correction that scales new values.
    correction: u32,
    padding: u32,
    // Bits of new elements, by column modulo 4.
    initial: vec4<u32>,
}

struct MovedTensor {
    start: u32,
    // End with the padding behind it.
    end: u32,
    columns: u32,
    padding: u32,
}

struct MovedTensors {
    live: u32,
    capacity: u32,
    padding: vec2<u32>,
    tensors: array<MovedTensor>,
}

const NEW_ROW: i32 = -1;
const KEEP: u32 = 0u;
const FILL: u32 = 1u;
const COPY: u32 = 2u;
const SCALE: u32 = 3u;

@group(0) @binding(0) var<uniform> stream: Remap;
@group(0) @binding(2) var<storage, read> rows: MovedTensors;
@group(0) @binding(3) var<storage, read> sources: array<i32>;
@group(0) @binding(4) var<storage, read> source_words: array<u32>;
@group(0) @binding(5) var<storage, read_write> target_words: array<u32>;
@group(0) @binding(6) var<storage, read> fresh_words: array<u32>;
@group(0) @binding(7) var<storage, read_write> invalid_rows: atomic<u32>;

// Number of the tensor whose range, with the padding behind it, holds the element.
fn tensor_of(element: u32) -> u32 {
    var first = stream.first_tensor;
    var end = stream.first_tensor + stream.tensors;
    while first + 1u < end {
        let middle = (first + end) / 2u;
        if rows.tensors[middle - 1u].end <= element {
            first = middle;
        } else {
            end = middle;
        }
    }
    return first;
}

fn write_new(offset: u32, column: u32) {
    let at = offset + stream.target_shift;
    if stream.fresh == FILL {
        target_words[at] = stream.initial[column % 4u];
    }
    if stream.fresh == COPY {
        target_words[at] = fresh_words[offset + stream.fresh_shift];
    }
    if stream.fresh == SCALE {
        let value = bitcast<f32>(fresh_words[offset + stream.fresh_shift]);
        target_words[at] = bitcast<u32>(value * control.bias_correction[stream.correction]);
    }
}

fn move_element(offset: u32) {
    let element = stream.start + offset;
    let tensor = rows.tensors[tensor_of(element)];
    let row = (element - tensor.start) / max(tensor.columns, 1u);
    // Padding lies behind the last row.
    if tensor.columns == 0u || row >= min(rows.live, rows.capacity) {
        return;
    }
    var source = sources[row];
    if source == NEW_ROW {
        write_new(offset, (element - tensor.start) % tensor.columns);
        return;
    }
    if source < 0 || u32(source) >= rows.capacity {
        atomicStore(&invalid_rows, 1u);
        source = i32(row);
    }
    let taken = element + (u32(source) - row) * tensor.columns - stream.source_start;
    if taken < stream.source_length {
        // equivalent(source_shift): chunks of the old values begin at aligned offsets
        target_words[offset + stream.target_shift] = source_words[taken + stream.source_shift];
    }
}

@compute @workgroup_size(256)
fn remap(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (workgroup.y * grid.x + workgroup.x) * 1024u + lane;
    for (var i = 0u; i < 4u; i++) {
        let offset = first + 256u * i;
        if offset < stream.length {
            move_element(offset);
        }
    }
}
