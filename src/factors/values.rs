use super::{Axis, Factors};

/// The factors of all tensors, the mean of the row factors of each matrix, and the sum of squares over each line.
#[derive(Debug, Clone)]
pub(crate) struct FactorValues {
    pub(crate) values: Vec<f32>,
    pub(crate) means: Vec<f32>,
    pub(crate) sums: Vec<f32>,
}

impl FactorValues {
    pub(crate) fn new(factors: &Factors) -> Self {
        let lines = factors.values();
        Self { values: vec![0.0; lines], means: vec![0.0; factors.matrices], sums: vec![0.0; lines] }
    }

    /// The variances of a tensor's elements from `start` on: `variance_of` of the WGSL.
    pub(crate) fn write_variance(&self, axes: &[Axis], start: usize, variance: &mut [f32]) {
        let (rows, columns) = (&axes[0], &axes[1]);
        let offset = start - rows.start;
        if columns.lines == 0 {
            for (variance, offset) in variance.iter_mut().zip(offset..) {
                *variance = self.values[rows.first_value + offset / rows.len];
            }
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
