// The factor table: running means of squared gradients per row and per column of each matrix, and per element of each
// vector. A line is a row or a column; a partial is the sum over 64 elements of a line.

import package::device::multiply_twice::{zero_of_applied};
import factor_table::{factors};

// In order: the header; nine words per axis; the factors; the mean of the row factors of each matrix; the partials.
// Each tensor has two axes: rows, then columns. The first axis of a vector is its elements; the second is empty.

// Header words: counts of axes, lines and matrices; indices of the first words of the factors, means and partials.
const AXES: u32 = 0u;
const LINES: u32 = 1u;
const MATRICES: u32 = 2u;
const VALUES: u32 = 3u;
const MEANS: u32 = 4u;
const PARTIALS: u32 = 5u;
const HEADER: u32 = 6u;

// Axis words. Line i begins at element START + i / STRIDE * STRIDE * LEN + i % STRIDE; its LEN elements are STRIDE
// elements apart.
const START: u32 = 0u;
const STRIDE: u32 = 1u;
const LEN: u32 = 2u;
const PARTIALS_OF_LINE: u32 = 3u;
const FIRST_PARTIAL: u32 = 4u;
const FIRST_LINE: u32 = 5u;
// Indices of the first line's factor and of the tensor's first matrix.
const FIRST_VALUE: u32 = 6u;
const FIRST_MATRIX: u32 = 7u;
// 0: no element of the tensor is active; 1: some are; 2: all are.
const ACTIVE: u32 = 8u;
const AXIS: u32 = 9u;

// Index of the first word of the axis that contains partial, line or matrix `number`. `first` is the axis word to
// compare: FIRST_PARTIAL, FIRST_LINE or FIRST_MATRIX.
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

// The variance of one element: row_var / mean(row_var) * col_var, or the factor itself in a vector.
fn variance_of(index: u32, tensor: u32) -> f32 {
    let rows = HEADER + 2u * tensor * AXIS;
    let columns = rows + AXIS;
    // equivalent(+ START): START is word 0
    let offset = index - factors[rows + START];
    let row = offset / factors[rows + LEN];
    let row_var = factor(rows, row);
    if factors[columns + LEN] == 0u {
        return row_var;
    }
    let stride = factors[columns + STRIDE];
    let matrix = row / factors[columns + LEN];
    let mean = bitcast<f32>(factors[factors[MEANS] + factors[rows + FIRST_MATRIX] + matrix]);
    // Divides first: the product of two factors could leave the range of f32. The integer operation keeps this order, as
    // in device/multiply_twice.wgsl.
    let share = bitcast<f32>(bitcast<u32>(row_var / mean) ^ zero_of_applied());
    return share * factor(columns, matrix * stride + offset % stride);
}
