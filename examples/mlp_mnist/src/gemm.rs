//! The matrix product of the CPU network: safe Rust that the compiler turns into vector instructions.

use std::thread;

use examples_common::numbers::Number;

/// Rows and columns of the block of results that one inner loop keeps in registers.
const BLOCK_ROWS: usize = 4;
const BLOCK_COLUMNS: usize = 8;

/// Multiply-adds that are worth starting a thread for.
const WORK_PER_THREAD: usize = 2_000_000;

/// A matrix inside a slice; swapping the steps transposes it without moving an element.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a, T: Number> Matrix<'a, T> {
    /// `data` as `[rows, columns]`, row after row.
    ///
    /// # Panics
    /// Another number of elements.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix of {rows} x {columns}");
        Self { data, rows, columns, row_step: columns, column_step: 1 }
    }

    #[must_use]
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_step: self.column_step, column_step: self.row_step, ..self }
    }

    /// Copies rows `first..first + N` side by side (`out[k][i]`), zeros beyond the last, so that the inner loop reads
    /// f32 in order, whichever way and in which format the matrix lies.
    fn pack_rows<const N: usize>(self, first: usize, out: &mut Vec<[f32; N]>) {
        for k in 0..self.columns {
            let at = k * self.column_step;
            out.push(std::array::from_fn(|i| {
                if first + i < self.rows { self.data[(first + i) * self.row_step + at].into() } else { 0.0 }
            }));
        }
    }

    fn packed<const N: usize>(self) -> Vec<[f32; N]> {
        let mut out = Vec::with_capacity(self.rows.div_ceil(N) * self.columns);
        for first in (0..self.rows).step_by(N) {
            self.pack_rows(first, &mut out);
        }
        out
    }
}

/// `result = a · b`, row after row, rounded once. Every element is one sum in the order of `k`, whatever the number of threads.
///
/// # Panics
/// Sizes that do not fit together.
pub fn multiply<A: Number, B: Number, R: Number>(a: Matrix<A>, b: Matrix<B>, result: &mut [R]) {
    assert_eq!(a.columns, b.rows, "the inner dimensions of a product");
    assert_eq!(result.len(), a.rows * b.columns, "the size of a product");
    let (depth, columns) = (a.columns, b.columns);
    if result.is_empty() || depth == 0 {
        result.fill(R::nearest(0.0));
        return;
    }
    let b_panels: Vec<[f32; BLOCK_COLUMNS]> = b.transposed().packed();
    let work = a.rows * columns * depth;
    let threads = thread::available_parallelism().map_or(1, usize::from).min(work / WORK_PER_THREAD).max(1);
    let rows_per_thread = a.rows.div_ceil(threads).next_multiple_of(BLOCK_ROWS);

    let run = |first_row: usize, result: &mut [R]| {
        let mut a_panel: Vec<[f32; BLOCK_ROWS]> = Vec::with_capacity(depth);
        for (block, rows) in result.chunks_mut(BLOCK_ROWS * columns).enumerate() {
            a_panel.clear();
            a.pack_rows(first_row + block * BLOCK_ROWS, &mut a_panel);
            for (panel, b_panel) in b_panels.chunks_exact(depth).enumerate() {
                let sums = block_sums(&a_panel, b_panel);
                let first = panel * BLOCK_COLUMNS;
                let width = BLOCK_COLUMNS.min(columns - first);
                for (row, sums) in rows.chunks_exact_mut(columns).zip(&sums) {
                    for (result, &sum) in row[first..first + width].iter_mut().zip(sums) {
                        *result = R::nearest(sum);
                    }
                }
            }
        }
    };
    if threads == 1 {
        run(0, result);
    } else {
        thread::scope(|scope| {
            let mut parts = result.chunks_mut(rows_per_thread * columns).enumerate();
            let own = parts.next();
            for (part, rows) in parts {
                scope.spawn(move || run(part * rows_per_thread, rows));
            }
            if let Some((_, rows)) = own {
                run(0, rows);
            }
        });
    }
}

fn block_sums(a: &[[f32; BLOCK_ROWS]], b: &[[f32; BLOCK_COLUMNS]]) -> [[f32; BLOCK_COLUMNS]; BLOCK_ROWS] {
    let mut sums = [[0.0; BLOCK_COLUMNS]; BLOCK_ROWS];
    for (a, b) in a.iter().zip(b) {
        for i in 0..BLOCK_ROWS {
            for j in 0..BLOCK_COLUMNS {
                sums[i][j] += a[i] * b[j];
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, so that every order of summation gives the same f32.
    fn numbers(rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| (i * 7 % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn products_of_every_shape_and_transposition_are_exact() {
        // The last shape is large enough for several threads.
        for [m, n, k] in [[1, 1, 1], [3, 5, 7], [4, 8, 16], [9, 17, 2], [5, 3, 0], [203, 131, 197]] {
            let (a, b) = (numbers(m, k), numbers(k, n));
            let (a_columns, b_columns) = (numbers(k, m), numbers(n, k));
            let at = |data: &[f32], index: usize| f64::from(data[index]);
            let mut result = vec![f32::NAN; m * n];
            let mut check =
                |a_matrix: Matrix<f32>, b_matrix: Matrix<f32>, term: &dyn Fn(usize, usize, usize) -> f64| {
                    multiply(a_matrix, b_matrix, &mut result);
                    for (index, &found) in result.iter().enumerate() {
                        let expected: f64 = (0..k).map(|k| term(index / n, index % n, k)).sum();
                        assert_eq!(f64::from(found), expected, "{m} x {n} x {k}, element {index}");
                    }
                };
            check(Matrix::new(&a, m, k), Matrix::new(&b, k, n), &|i, j, l| at(&a, i * k + l) * at(&b, l * n + j));
            check(Matrix::new(&a_columns, k, m).transposed(), Matrix::new(&b, k, n), &|i, j, l| {
                at(&a_columns, l * m + i) * at(&b, l * n + j)
            });
            check(Matrix::new(&a, m, k), Matrix::new(&b_columns, n, k).transposed(), &|i, j, l| {
                at(&a, i * k + l) * at(&b_columns, j * k + l)
            });
        }
    }
}
