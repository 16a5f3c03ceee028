use super::segment_reduce::add;
use super::update_elements::WholeStep;
use crate::cpu::map_parts;
use crate::factors::{Axis, Factors, Live, PIECE};
use crate::groups::GroupTable;
use crate::rule::Rule;
use crate::tile::reduce;

/// Pieces that are added up before they are added to the others. Twin of the constant in `shaders/settle_lines.wgsl`.
const RUN: usize = 64;

/// The factors of all tensors, and the mean of those of each matrix's rows.
#[derive(Debug, Clone)]
pub(crate) struct FactorValues {
    pub(crate) values: Vec<f32>,
    means: Vec<f32>,
}

/// The sum over a line, of its pieces in their order. Twin of the loop in `shaders/settle_lines.wgsl`.
#[derive(Clone, Copy, Default)]
struct Total {
    sum: f32,
    run: f32,
    pieces: usize,
}

impl Total {
    fn add(&mut self, piece: f32) {
        self.run += piece;
        self.pieces += 1;
        if self.pieces.is_multiple_of(RUN) {
            self.sum += self.run;
            self.run = 0.0;
        }
    }

    fn sum(self) -> f32 {
        self.sum + self.run
    }
}

impl FactorValues {
    pub(crate) fn new(factors: &Factors) -> Self {
        Self { values: vec![0.0; factors.values()], means: vec![0.0; factors.matrices] }
    }

    /// Brings the factors forward. Twin of `shaders/lines.wgsl`, `settle_lines.wgsl` and `mean_rows.wgsl`.
    pub(crate) fn settle(
        &mut self,
        rule: &dyn Rule,
        factors: &Factors,
        groups: &GroupTable,
        step: &WholeStep,
        grad: &[f32],
    ) {
        let mut settle_line = |line: usize, sum: f32, len: usize| {
            let value = &mut self.values[line];
            *value = rule.settle_factor(*value, sum / len as f32, step.scalars, step.t);
        };
        for axes in factors.tensors().filter(|axes| axes[0].live != Live::None) {
            let (rows, columns) = (&axes[0], &axes[1]);
            if columns.lines == 0 {
                let mut squares = vec![0.0; rows.lines];
                write_squares(groups, step, grad, rows.start, &mut squares);
                squares.iter().enumerate().for_each(|(i, &square)| settle_line(rows.first_value + i, square, 1));
                continue;
            }
            let matrices = rows.lines / columns.len;
            let bands = columns.len.div_ceil(PIECE);
            let parts = (0..matrices * bands).map(|i| {
                let first = i % bands * PIECE;
                let end = columns.len.min(first + PIECE);
                i / bands * columns.len + first..i / bands * columns.len + end
            });
            let sums = map_parts(parts.collect(), |band| sum_band(groups, step, grad, rows, band));
            for (matrix, bands) in sums.chunks_exact(bands).enumerate() {
                let mut totals = vec![Total::default(); columns.stride];
                for (_, columns) in bands {
                    totals.iter_mut().zip(columns).for_each(|(total, &sum)| total.add(sum));
                }
                let first = columns.first_value + matrix * columns.stride;
                totals.iter().enumerate().for_each(|(i, total)| settle_line(first + i, total.sum(), columns.len));
                let sums = bands.iter().flat_map(|(rows, _)| rows);
                let first = rows.first_value + matrix * columns.len;
                sums.enumerate().for_each(|(i, &sum)| settle_line(first + i, sum, rows.len));
            }
        }
        self.mean_rows(rule, factors);
    }

    fn mean_rows(&mut self, rule: &dyn Rule, factors: &Factors) {
        for axes in factors.tensors().filter(|axes| axes[1].lines > 0) {
            let (rows, len) = (&axes[0], axes[1].len);
            let values = &self.values[rows.first_value..rows.first_value + rows.lines];
            for (mean, values) in self.means[rows.first_matrix..].iter_mut().zip(values.chunks_exact(len)) {
                let mut lane_sums = [[0.0; 4]; 256];
                for (i, value) in values.iter().enumerate() {
                    lane_sums[i % 256][0] += value;
                }
                *mean = rule.floor_mean(reduce(&mut lane_sums, add)[0] / len as f32);
            }
        }
    }

    /// What the factors of a tensor say of its elements from `start` on. Twin of `variance_at` in `shaders/factors.wgsl`.
    pub(crate) fn write_variance(&self, axes: &[Axis], start: usize, variance: &mut [f32]) {
        let (rows, columns) = (&axes[0], &axes[1]);
        let offset = start - rows.start;
        if columns.lines == 0 {
            let first = rows.first_value + offset;
            variance.copy_from_slice(&self.values[first..first + variance.len()]);
            return;
        }
        let (mut row, mut column) = (offset / rows.len, offset % rows.len);
        let mut rest = variance;
        while !rest.is_empty() {
            let (of_row, behind) = rest.split_at_mut((rows.len - column).min(rest.len()));
            let matrix = row / columns.len;
            let share = self.values[rows.first_value + row] / self.means[rows.first_matrix + matrix];
            let first = columns.first_value + matrix * columns.stride + column;
            let col_vars = &self.values[first..first + of_row.len()];
            for (variance, col_var) in of_row.iter_mut().zip(col_vars) {
                *variance = share * col_var;
            }
            (row, column, rest) = (row + 1, 0, behind);
        }
    }
}

/// The sums of squares over each of some rows of one matrix, and over what they have of each column.
fn sum_band(
    groups: &GroupTable,
    step: &WholeStep,
    grad: &[f32],
    rows: &Axis,
    band: std::ops::Range<usize>,
) -> (Vec<f32>, Vec<f32>) {
    let mut squares = vec![0.0; rows.len];
    let mut columns = vec![0.0; rows.len];
    let sums = band.map(|row| {
        write_squares(groups, step, grad, rows.start + row * rows.len, &mut squares);
        for (column, square) in columns.iter_mut().zip(&squares) {
            *column += square;
        }
        let mut total = Total::default();
        for piece in squares.chunks(PIECE) {
            total.add(piece.iter().fold(0.0, |sum, square| sum + square));
        }
        total.sum()
    });
    (sums.collect(), columns)
}

/// The squared gradients of the elements from `start` on; 0 where they are frozen.
fn write_squares(groups: &GroupTable, step: &WholeStep, grad: &[f32], start: usize, squares: &mut [f32]) {
    for (from, to, span) in groups.covering(start as u32, (start + squares.len()) as u32) {
        let squares = &mut squares[from as usize - start..to as usize - start];
        for (square, &grad) in squares.iter_mut().zip(&grad[from as usize..to as usize]) {
            let grad = step.grads(&[]).seen(grad);
            *square = if span.live() { grad * grad } else { 0.0 };
        }
    }
}
