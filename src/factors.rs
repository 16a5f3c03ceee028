mod values;

use std::ops::Range;

use crate::groups::GroupTable;
use crate::rule::Rule;
use crate::{Error, Layout};

pub(crate) use values::FactorValues;

/// Names of the factored states, in their order.
pub(crate) const NAMES: [&str; 3] = ["row_var", "col_var", "variance"];
/// Elements of a partial.
pub(crate) const PARTIAL_LEN: usize = 64;

/// The rows or the columns of a tensor: lines with a factor each. The lines of a vector are its elements.
///
/// Line `i` begins at element `start + i / stride * stride * len + i % stride`, and its elements lie `stride` apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) start: usize,
    pub(crate) stride: usize,
    /// Elements of each line.
    pub(crate) len: usize,
    pub(crate) lines: usize,
    first_partial: usize,
    first_line: usize,
    /// Number of the state that holds the factors: see [`NAMES`].
    state: usize,
    /// Number of the first line's factor.
    pub(crate) first_value: usize,
    /// The tensor's first matrix: its last two dimensions.
    pub(crate) first_matrix: usize,
    pub(crate) active: Active,
}

/// The active elements of a tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Active {
    /// None: the tensor's factors stay unchanged.
    None,
    Some,
    #[default]
    All,
}

impl Axis {
    fn partials_of_line(&self) -> usize {
        self.len.div_ceil(PARTIAL_LEN)
    }
}

/// The factors of a rule with [`Rule::factored`], and their table on the device: see `shaders/factors.wgsl`.
#[derive(Debug, Clone)]
pub(crate) struct Factors {
    /// Whether the factors are those of [`Factored::factors_rows`](crate::rule::Factored::factors_rows).
    by_row: bool,
    /// Two per tensor: rows and columns, or elements and nothing.
    axes: Vec<Axis>,
    /// End of the values of each of [`NAMES`].
    ends: [usize; 3],
    pub(crate) matrices: usize,
    partials: usize,
    lines: usize,
}

/// Words before the axes.
const HEADER: usize = 6;
/// Words per axis.
const AXIS: usize = 9;

impl Factors {
    /// `None` for rules without factors.
    ///
    /// # Errors
    /// [`Error::LayoutTooLarge`].
    pub(crate) fn new(layout: &Layout, rule: &dyn Rule) -> Result<Option<Self>, Error> {
        let Some(factored) = rule.factored() else { return Ok(None) };
        let by_row = factored.factors_rows();
        let mut factors = Self { by_row, axes: Vec::new(), ends: [0; 3], matrices: 0, partials: 0, lines: 0 };
        for tensor in layout.tensors() {
            let (start, elements) = (tensor.range().start, tensor.range().len());
            let (shapes, states, matrices) = match *tensor.shape() {
                [rows, ..] if factored.factors_rows() => {
                    let columns = elements.checked_div(rows).unwrap_or(0);
                    ([(1, columns, if columns == 0 { 0 } else { rows }), (1, 0, 0)], [0, 0], 0)
                }
                [.., rows, columns] if factored.factors_matrix(rows, columns) => {
                    let matrices = if elements == 0 { 0 } else { elements / (rows * columns) };
                    ([(1, columns, matrices * rows), (columns, rows, matrices * columns)], [0, 1], matrices)
                }
                _ => ([(1, 1, elements), (1, 0, 0)], [2, 2], 0),
            };
            for ((stride, len, lines), state) in shapes.into_iter().zip(states) {
                let first_matrix = factors.matrices;
                let (first_partial, first_line) = (factors.partials, factors.lines);
                let (first_value, active) = (0, Active::All);
                let axis = Axis {
                    start,
                    stride,
                    len,
                    lines,
                    first_partial,
                    first_line,
                    state,
                    first_value,
                    first_matrix,
                    active,
                };
                factors.partials += lines * axis.partials_of_line();
                factors.lines += lines;
                factors.axes.push(axis);
            }
            factors.matrices += matrices;
        }
        // The values of one name are contiguous, over all tensors.
        let mut at = 0;
        for (state, end) in factors.ends.iter_mut().enumerate() {
            for axis in factors.axes.iter_mut().filter(|axis| axis.state == state) {
                axis.first_value = at;
                at += axis.lines;
            }
            *end = at;
        }
        let (len, max) = (factors.words_before_partials() as u64 + factors.partials as u64, u32::MAX.into());
        if len > max { Err(Error::LayoutTooLarge { len, max }) } else { Ok(Some(factors)) }
    }

    /// Stores which tensors have active elements.
    pub(crate) fn set_active(&mut self, layout: &Layout, groups: &GroupTable) {
        for (axes, tensor) in self.axes.chunks_exact_mut(2).zip(layout.tensors()) {
            let spans = groups.covering(tensor.range().start as u32, tensor.range().end as u32);
            let active: Vec<bool> = spans.map(|(.., span)| span.is_active()).collect();
            let active = match (active.contains(&true), active.contains(&false)) {
                (true, false) => Active::All,
                (true, true) => Active::Some,
                (false, _) => Active::None,
            };
            for axis in axes {
                axis.active = active;
            }
        }
    }

    /// Rows and columns of each tensor.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &[Axis]> {
        self.axes.chunks_exact(2)
    }

    /// Rows and columns of each tensor with active elements.
    pub(crate) fn active_tensors(&self) -> impl Iterator<Item = &[Axis]> {
        self.tensors().filter(|axes| axes[0].active != Active::None)
    }

    /// Rows and columns of the tensor that holds an element: the tensor of that number, if the rule sums over tensors.
    pub(crate) fn tensor_of(&self, number: usize, element: usize) -> &[Axis] {
        if !self.by_row {
            return self.tensor(number);
        }
        // An empty tensor begins where the next one does.
        let end = self.axes.partition_point(|axis| axis.start <= element);
        &self.axes[end - 2..end]
    }

    /// Rows and columns of one tensor.
    pub(crate) fn tensor(&self, tensor: usize) -> &[Axis] {
        &self.axes[2 * tensor..2 * tensor + 2]
    }

    /// The factors of a tensor of that shape: state, shape, and range among all factors.
    #[cfg(feature = "safetensors")]
    pub(crate) fn states_of(&self, tensor: usize, shape: &[usize]) -> Vec<(&'static str, Vec<usize>, Range<usize>)> {
        let [rows, columns] = [0, 1].map(|axis| self.axes[2 * tensor + axis]);
        let state = |axis: &Axis, shape: Vec<usize>| {
            (NAMES[axis.state], shape, axis.first_value..axis.first_value + axis.lines)
        };
        let is_matrix = rows.state != columns.state && rows.lines > 0;
        match shape {
            [batch @ .., height, width] if is_matrix => {
                vec![state(&rows, [batch, &[*height]].concat()), state(&columns, [batch, &[*width]].concat())]
            }
            [height, ..] if rows.len > 1 => vec![state(&rows, vec![*height])],
            // A matrix without elements has no factors.
            _ => vec![state(&rows, shape.to_vec())],
        }
    }

    /// The factors of a tensor of that many dimensions that belong to one index of its first. The factors of a matrix's
    /// columns belong to all rows.
    pub(crate) fn row_values(&self, tensor: usize, dimensions: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let [rows, columns] = [0, 1].map(|axis| self.axes[2 * tensor + axis]);
        let values = |axis: Axis| axis.first_value..axis.first_value + axis.lines;
        let has_columns = dimensions > 2 && rows.state != columns.state;
        [Some(values(rows)), has_columns.then(|| values(columns))].into_iter().flatten()
    }

    /// The means of the row factors of a tensor of that shape: shape, and range among all means.
    #[cfg(feature = "safetensors")]
    pub(crate) fn means_of(&self, tensor: usize, shape: &[usize]) -> (Vec<usize>, Range<usize>) {
        let first = self.axes[2 * tensor].first_matrix;
        let end = self.axes.get(2 * tensor + 2).map_or(self.matrices, |next| next.first_matrix);
        let has_matrices = end > first;
        (if has_matrices { shape[..shape.len() - 2].to_vec() } else { vec![0] }, first..end)
    }

    /// The range of a state's values among all factors.
    pub(crate) fn range(&self, name: &str) -> Option<Range<usize>> {
        let number = NAMES.iter().position(|known| *known == name)?;
        Some(if number == 0 { 0 } else { self.ends[number - 1] }..self.ends[number])
    }

    /// Number of factors.
    pub(crate) fn values(&self) -> usize {
        self.lines
    }

    /// The partials of tensors with elements in a range.
    pub(crate) fn partials_in(&self, layout_range: Range<u64>) -> Range<usize> {
        let before = |element: u64| self.axes.partition_point(|axis| (axis.start as u64) < element);
        // A tensor that begins before the range may reach into it.
        let (first, end) = (before(layout_range.start + 1).saturating_sub(2), before(layout_range.end));
        let partial = |axis: usize| self.axes.get(axis).map_or(self.partials, |axis| axis.first_partial);
        partial(first)..partial(end)
    }

    fn words_before_partials(&self) -> usize {
        HEADER + AXIS * self.axes.len() + self.lines + self.matrices
    }

    /// Bytes of a state's values in the device's table.
    pub(crate) fn bytes(&self, name: &str) -> Option<Range<u64>> {
        let first = HEADER + AXIS * self.axes.len();
        self.range(name).map(|range| 4 * (first + range.start) as u64..4 * (first + range.end) as u64)
    }

    /// Bytes of the values in the device's table.
    pub(crate) fn value_bytes(&self) -> Range<u64> {
        let first = HEADER + AXIS * self.axes.len();
        4 * first as u64..4 * (first + self.lines) as u64
    }

    /// Bytes of the values and of the means in the device's table.
    #[cfg(feature = "safetensors")]
    pub(crate) fn table_bytes(&self) -> [Range<u64>; 2] {
        let values = self.value_bytes();
        let means = values.end..values.end + 4 * self.matrices as u64;
        [values, means]
    }

    /// Words of the device's table; all values are 0 before the first step.
    pub(crate) fn words(&self) -> Vec<u32> {
        let values = HEADER + AXIS * self.axes.len();
        let means = values + self.lines;
        let mut words = vec![self.axes.len(), self.lines, self.matrices, values, means, self.words_before_partials()];
        for axis in &self.axes {
            let Axis { start, stride, len, first_partial, first_line, first_value, first_matrix, active, .. } = *axis;
            let partials = axis.partials_of_line();
            words.extend([start, stride, len, partials, first_partial, first_line, first_value, first_matrix]);
            words.push(active as usize);
        }
        let mut words: Vec<u32> = words.into_iter().map(|word| word as u32).collect();
        words.resize(self.words_before_partials() + self.partials, 0);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Adafactor;

    #[test]
    fn rows_and_columns_of_every_shape_have_their_place() {
        let layout = Layout::builder()
            .tensor("matrix", &[3, 100])
            .tensor("vector", &[5])
            .tensor("empty", &[2, 0])
            .tensor("batch", &[2, 70, 4])
            .tensor("scalar", &[])
            .packed()
            .build()
            .unwrap();
        let factors = Factors::new(&layout, &Adafactor::default()).unwrap().unwrap();
        let place = |axis: &Axis| (axis.start, axis.stride, axis.len, axis.lines, axis.partials_of_line());
        let places: Vec<_> = factors.axes.iter().map(place).collect();
        let nothing = |start| (start, 1, 0, 0, 0);
        assert_eq!(places[..2], [(0, 1, 100, 3, 2), (0, 100, 3, 100, 1)]);
        assert_eq!(places[2..4], [(300, 1, 1, 5, 1), nothing(300)]);
        assert_eq!(places[4..6].iter().map(|place| place.3).sum::<usize>(), 0);
        assert_eq!(places[6..8], [(305, 1, 4, 140, 1), (305, 4, 70, 8, 2)]);
        assert_eq!(places[8..], [(865, 1, 1, 1, 1), nothing(865)]);
        let ranges = NAMES.map(|name| factors.range(name).unwrap());
        assert_eq!(ranges, [0..143, 143..251, 251..257]);
        assert_eq!((factors.matrices, factors.partials, factors.lines), (3, 6 + 100 + 5 + 140 + 16 + 1, 257));
        // Partials of the tensors in the range, and of no other that begins or ends there.
        for (range, partials) in [(0..300, 0..106), (299..301, 0..111), (305..866, 111..268), (864..865, 111..267)] {
            assert_eq!(factors.partials_in(range), partials);
        }
    }
}
