// The row table: tensors of rows that come and go, and which rows are active.

import row_table::{row_table};

// In order: the header; six words per tensor; the mask of visible rows, bit r % 32 of word r / 32; with a step count per
// row, the counts and four bias corrections per row; five words per projection.

// Header words: number of live rows; 1 if the mask counts; number of tensors; number of rows; indices of the first words
// of mask and step counts.
const LIVE_ROWS: u32 = 0u;
const USES_MASK: u32 = 1u;
const ROWS: u32 = 3u;
const MASK: u32 = 4u;
const STEPS: u32 = 5u;
// Index of the first projection's first word.
const PROJECTIONS: u32 = 6u;
const ROW_HEADER: u32 = 7u;
// Words of a projection.
const PROJECTION: u32 = 5u;

// Tensor words. The end includes the padding behind the tensor; that of the last tensor is the largest number.
const TENSOR_END: u32 = 0u;
const TENSOR_START: u32 = 1u;
const COLUMNS: u32 = 2u;
// Index of the first column's scale among the learning rates, or NO_SCALE.
const FIRST_SCALE: u32 = 3u;
// Indices of the tensor's first projection, and one past its last.
const FIRST_PROJECTION: u32 = 4u;
const END_PROJECTION: u32 = 5u;
const ROW_TENSOR: u32 = 6u;
const NO_SCALE: u32 = 0xffffffffu;

// Place of an element: the first word of its tensor, row and column. Padding has a row past the capacity.
struct RowPlace {
    tensor: u32,
    row: u32,
    column: u32,
}

fn row_place(index: u32) -> RowPlace {
    var tensor = ROW_HEADER;
    while row_table[tensor + TENSOR_END] <= index {
        tensor += ROW_TENSOR;
    }
    let offset = index - row_table[tensor + TENSOR_START];
    let columns = row_table[tensor + COLUMNS];
    return RowPlace(tensor, offset / columns, offset % columns);
}

// The place of element `index`, whose predecessor has the place `previous`.
fn following_place(previous: RowPlace, index: u32) -> RowPlace {
    if row_table[previous.tensor + TENSOR_END] <= index {
        return row_place(index);
    }
    let is_next = previous.column + 1u == row_table[previous.tensor + COLUMNS];
    return RowPlace(
        previous.tensor,
        previous.row + select(0u, 1u, is_next),
        select(previous.column + 1u, 0u, is_next),
    );
}

// The places of the four elements at `index`.
struct QuadPlaces {
    x: RowPlace,
    y: RowPlace,
    z: RowPlace,
    w: RowPlace,
}

fn quad_places(index: u32) -> QuadPlaces {
    let x = row_place(index);
    let y = following_place(x, index + 1u);
    let z = following_place(y, index + 2u);
    return QuadPlaces(x, y, z, following_place(z, index + 3u));
}

fn is_row_active(row: u32) -> bool {
    if row >= row_table[LIVE_ROWS] {
        return false;
    }
    let word = row_table[row_table[MASK] + row / 32u];
    return row_table[USES_MASK] == 0u || ((word >> (row % 32u)) & 1u) == 1u;
}
