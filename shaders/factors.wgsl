// What a rule keeps in place of a state per element: a factor of each row and each column of the last two dimensions of
// tensors, and of each element of vectors. Twin: src/factors.rs.

// The header, nine words per axis (the rows of a tensor, then its columns; of vectors the elements, then nothing), the
// factors, the means of those of each matrix's rows, and the sums over the pieces of lines.
@group(0) @binding(17) var<storage, ACCESS> factors: array<u32>;

// Words of the header: how many axes, lines and matrices there are, and where the factors, the means and the sums begin.
const AXES: u32 = 0u;
const LINES: u32 = 1u;
const MATRICES: u32 = 2u;
const VALUES: u32 = 3u;
const MEANS: u32 = 4u;
const SUMS: u32 = 5u;
const HEADER: u32 = 6u;

// Words of an axis. Line i begins at element START + i / STRIDE * STRIDE * LEN + i % STRIDE; its LEN elements lie STRIDE
// apart.
const START: u32 = 0u;
const STRIDE: u32 = 1u;
const LEN: u32 = 2u;
const PIECES_OF_LINE: u32 = 3u;
const FIRST_PIECE: u32 = 4u;
const FIRST_LINE: u32 = 5u;
// Where the first line's factor is, and the mean of the tensor's first matrix.
const FIRST_VALUE: u32 = 6u;
const FIRST_MATRIX: u32 = 7u;
// 0 where no element of the tensor is live, 1 where some are, 2 where all are.
const LIVE: u32 = 8u;
const AXIS: u32 = 9u;

// Where the axis begins of which `number` is a piece, line or matrix, as `first` says: the last whose first is no greater.
fn find_axis(number: u32, first: u32) -> u32 {
    var low = 0u;
    var high = factors[AXES];
    while low + 1u < high {
        let middle = (low + high) / 2u;
        if factors[HEADER + middle * AXIS + first] <= number {
            low = middle;
        } else {
            high = middle;
        }
    }
    return HEADER + low * AXIS;
}

fn factor(axis: u32, line: u32) -> f32 {
    return bitcast<f32>(factors[factors[VALUES] + factors[axis + FIRST_VALUE] + line]);
}

fn variance_of(index: u32, tensor: u32) -> f32 {
    let rows = HEADER + 2u * tensor * AXIS;
    let columns = rows + AXIS;
    // equivalent(+ START): it is 0
    let offset = index - factors[rows + START];
    let row = offset / factors[rows + LEN];
    let row_var = factor(rows, row);
    if factors[columns + LEN] == 0u {
        return row_var;
    }
    let stride = factors[columns + STRIDE];
    let matrix = row / factors[columns + LEN];
    let mean = bitcast<f32>(factors[factors[MEANS] + factors[rows + FIRST_MATRIX] + matrix]);
    // The product first might leave the range of f32.
    return row_var / mean * factor(columns, matrix * stride + offset % stride);
}

// What the factors say of four elements.
fn variance_at(index: u32, tensor: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(
        variance_of(index, tensor.x),
        variance_of(index + 1u, tensor.y),
        variance_of(index + 2u, tensor.z),
        variance_of(index + 3u, tensor.w),
    );
}
