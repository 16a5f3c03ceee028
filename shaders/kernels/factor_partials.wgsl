// The sums of squared gradients over pieces of lines: rows and columns of matrices, elements of vectors.
// Each lane adds up a piece in the order of its elements, from where the chunk before has left off, so that chunking does
// not change a bit. Twin: src/cpu/factors.rs.

@group(0) @binding(1) var<uniform> control: Control;

// The part of the flat space that one dispatch handles. Twin: `LinesChunk` in src/gpu/factors.rs.
struct LinesChunk {
    // Flat index of the chunk's first element, and of the one behind its last.
    start: u32,
    end: u32,
    // The pieces that may have elements in the chunk, from the first to the one behind the last.
    first_piece: u32,
    end_piece: u32,
    // Where the chunk begins in the bound gradients, in elements.
    shift: u32,
}

@group(0) @binding(0) var<uniform> chunk: LinesChunk;
@group(0) @binding(5) var<storage, read> grads: array<u32>;

// Elements of a line that one lane adds up.
const PIECE: u32 = 64u;

fn sum_piece(piece: u32) {
    let axis = find_axis(piece, FIRST_PIECE);
    let live = factors[axis + LIVE];
    let stride = factors[axis + STRIDE];
    let len = factors[axis + LEN];
    let pieces_of_line = factors[axis + PIECES_OF_LINE];
    // Pieces of neighbouring lines lie beside each other, as the lines' elements do.
    let number = piece - factors[axis + FIRST_PIECE];
    let first = number / stride % pieces_of_line * PIECE;
    let count = min(len - first, PIECE);
    // equivalent(+ START): it is 0
    let lines_start = factors[axis + START] + number / (stride * pieces_of_line) * (stride * len);
    let start = lines_start + first * stride + number % stride;
    // equivalent(constant): see the next line
    let last = start + (count - 1u) * stride;
    // equivalent(boundary, drop): of pieces outside the chunk nothing is added below, and frozen ones count for nothing; this
    // spares their loops
    if live == 0u || start >= chunk.end || last < chunk.start {
        return;
    }
    var sum = 0.0;
    if start < chunk.start {
        sum = bitcast<f32>(factors[factors[SUMS] + piece]);
    }
    for (var i = 0u; i < count; i++) {
        let element = start + i * stride;
        // equivalent(>, || element >= chunk.end): lavapipe reads zeros beyond a binding
        if element < chunk.start || element >= chunk.end {
            continue;
        }
        if live == 2u || is_live(element) {
            let bits = grads[element - chunk.start + chunk.shift];
            let scaled = bitcast<f32>(bits) * control.grad_factors.x * control.grad_factors.y;
            let grad = clip_by_value(vec4<f32>(scaled)).x;
            sum = sum + grad * grad;
        }
    }
    factors[factors[SUMS] + piece] = bitcast<u32>(sum);
}

fn is_live(element: u32) -> bool {
    return groups[find_span(element) + 3u] != 0u;
}

@compute @workgroup_size(256)
fn sum_lines(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (workgroup.y * grid.x + workgroup.x) * 256u + lane;
    let end = select(0u, chunk.end_piece, control.apply != 0u);
    // More than once where a grid cannot have as many lanes as there are pieces.
    // equivalent(boundary): the piece behind the last has no element in the chunk
    for (var piece = chunk.first_piece + first; piece < end; piece += grid.x * grid.y * 256u) {
        sum_piece(piece);
    }
}
