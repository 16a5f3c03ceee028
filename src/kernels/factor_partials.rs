//! Sums of squared gradients over each row and column. The device stores partials of 64 elements and adds them in
//! `factor_update`; here each line's partials are added at once, in the same order.

use super::part_sums::StepInputs;
use super::update_elements::StepContext;
use crate::factors::{Axis, FactorValues, Factors, PARTIAL_LEN};
use crate::parallel;

/// Number of consecutive partials that are summed before their sum is added to the total: limits rounding error.
const RUN_LEN: usize = 64;

/// The sum over a line, partial by partial.
#[derive(Clone, Copy, Default)]
struct LineSum {
    total: f32,
    run: f32,
    partials: usize,
}

impl LineSum {
    fn add(&mut self, partial: f32) {
        self.run += partial;
        self.partials += 1;
        if self.partials.is_multiple_of(RUN_LEN) {
            self.total += self.run;
            self.run = 0.0;
        }
    }

    fn sum(self) -> f32 {
        self.total + self.run
    }
}

/// Sums over the lines of all tensors with active elements.
pub(crate) fn factor_partials(
    values: &mut FactorValues,
    factors: &Factors,
    context: &StepContext,
    inputs: &StepInputs<'_>,
) {
    for axes in factors.active_tensors() {
        let (rows, columns) = (&axes[0], &axes[1]);
        if columns.lines == 0 {
            let mut squares = vec![0.0; rows.len];
            for (row, sum) in values.sums[rows.first_value..][..rows.lines].iter_mut().enumerate() {
                write_squares(inputs, context, rows.start + row * rows.len, &mut squares);
                *sum = sum_line(&squares);
            }
            continue;
        }
        let matrices = rows.lines / columns.len;
        let bands = columns.len.div_ceil(PARTIAL_LEN);
        let band_rows = (0..matrices * bands).map(|i| {
            let first = i % bands * PARTIAL_LEN;
            let end = columns.len.min(first + PARTIAL_LEN);
            i / bands * columns.len + first..i / bands * columns.len + end
        });
        let sums = parallel::map(band_rows.collect(), |band| sum_band(inputs, context, rows, band));
        for (matrix, bands) in sums.chunks_exact(bands).enumerate() {
            let mut totals = vec![LineSum::default(); columns.stride];
            for (_, columns) in bands {
                totals.iter_mut().zip(columns).for_each(|(total, &sum)| total.add(sum));
            }
            let first = columns.first_value + matrix * columns.stride;
            values.sums[first..].iter_mut().zip(&totals).for_each(|(sum, total)| *sum = total.sum());
            let first = rows.first_value + matrix * columns.len;
            let row_sums = bands.iter().flat_map(|(rows, _)| rows);
            values.sums[first..].iter_mut().zip(row_sums).for_each(|(sum, &row_sum)| *sum = row_sum);
        }
    }
}

/// The sums of squares over each of some rows of one matrix, and over their elements of each column.
fn sum_band(
    inputs: &StepInputs<'_>,
    context: &StepContext,
    rows: &Axis,
    band: std::ops::Range<usize>,
) -> (Vec<f32>, Vec<f32>) {
    let mut squares = vec![0.0; rows.len];
    let mut columns = vec![0.0; rows.len];
    let sums = band.map(|row| {
        write_squares(inputs, context, rows.start + row * rows.len, &mut squares);
        for (column, square) in columns.iter_mut().zip(&squares) {
            *column += square;
        }
        sum_line(&squares)
    });
    (sums.collect(), columns)
}

/// The sum over a line, partial by partial.
fn sum_line(squares: &[f32]) -> f32 {
    let mut total = LineSum::default();
    for partial in squares.chunks(PARTIAL_LEN) {
        total.add(partial.iter().fold(0.0, |sum, square| sum + square));
    }
    total.sum()
}

/// The squared gradients of the elements from `start` on; 0 where frozen.
fn write_squares(inputs: &StepInputs<'_>, context: &StepContext, start: usize, squares: &mut [f32]) {
    let mut scratch = Vec::new();
    for (from, to, span) in inputs.groups.active_runs(start as u32, (start + squares.len()) as u32) {
        let squares = &mut squares[from as usize - start..to as usize - start];
        let grad = inputs.grad.load(from as usize..to as usize, &mut scratch);
        for (square, &grad) in squares.iter_mut().zip(grad) {
            let grad = context.grads(&[]).clipped(grad);
            *square = if span.is_active() { grad * grad } else { 0.0 };
        }
    }
}
