use std::ops::Range;

use crate::groups::GroupTable;
use crate::rule::Rule;
use crate::{Error, Layout};

/// Names of the states that are kept as factors, in their order.
pub(crate) const NAMES: [&str; 3] = ["row_var", "col_var", "variance"];
/// Elements of a line that one lane adds up. Twin of the constant of the same name in `shaders/lines.wgsl`.
pub(crate) const PIECE: usize = 64;

/// The rows of a tensor, or its columns: lines of elements that have a factor each. Those of a vector are its elements.
///
/// Line `i` begins at element `start + i / stride * stride * len + i % stride`, and its elements lie `stride` apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) start: usize,
    pub(crate) stride: usize,
    /// Elements of each line.
    pub(crate) len: usize,
    pub(crate) lines: usize,
    first_piece: usize,
    first_line: usize,
    /// Where the first line's factor is.
    pub(crate) first_value: usize,
    /// The tensor's first matrix: its last two dimensions.
    pub(crate) first_matrix: usize,
    pub(crate) live: Live,
}

/// Which elements of a tensor take part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Live {
    /// Its factors stay as they are.
    None,
    Some,
    #[default]
    All,
}

impl Axis {
    fn pieces_of_line(&self) -> usize {
        self.len.div_ceil(PIECE)
    }
}

/// What a rule with [`Rule::factored`] keeps in place of a state per element. Twin of `shaders/factors.wgsl`.
#[derive(Debug)]
pub(crate) struct Factors {
    /// Two per tensor: rows and columns, or elements and nothing.
    axes: Vec<Axis>,
    /// Where the values of each of [`NAMES`] end.
    ends: [usize; 3],
    pub(crate) matrices: usize,
    pieces: usize,
    lines: usize,
}

/// Words before the axes.
const HEADER: usize = 6;
/// Words per axis.
const AXIS: usize = 9;

impl Factors {
    /// The factors of a rule that keeps any.
    ///
    /// # Errors
    /// [`Error::LayoutTooLarge`].
    pub(crate) fn new(layout: &Layout, rule: &dyn Rule) -> Result<Option<Self>, Error> {
        if !rule.factored() {
            return Ok(None);
        }
        let mut factors = Self { axes: Vec::new(), ends: [0; 3], matrices: 0, pieces: 0, lines: 0 };
        let mut names = Vec::new();
        for tensor in layout.tensors() {
            let (start, elements) = (tensor.range().start, tensor.range().len());
            let (shapes, matrices) = match *tensor.shape() {
                [.., rows, columns] if rule.factors_matrix(rows, columns) => {
                    names.extend([0, 1]);
                    let matrices = if elements == 0 { 0 } else { elements / (rows * columns) };
                    ([(1, columns, matrices * rows), (columns, rows, matrices * columns)], matrices)
                }
                _ => {
                    names.extend([2, 2]);
                    ([(1, 1, elements), (1, 0, 0)], 0)
                }
            };
            for (stride, len, lines) in shapes {
                let first_matrix = factors.matrices;
                let (first_piece, first_line) = (factors.pieces, factors.lines);
                let (first_value, live) = (0, Live::All);
                let axis = Axis { start, stride, len, lines, first_piece, first_line, first_value, first_matrix, live };
                factors.pieces += lines * axis.pieces_of_line();
                factors.lines += lines;
                factors.axes.push(axis);
            }
            factors.matrices += matrices;
        }
        // The values of a name lie beside each other, whatever tensors they are of.
        let mut at = 0;
        for (name, end) in factors.ends.iter_mut().enumerate() {
            for (axis, _) in factors.axes.iter_mut().zip(&names).filter(|(_, of)| **of == name) {
                axis.first_value = at;
                at += axis.lines;
            }
            *end = at;
        }
        let (len, max) = (factors.words_before_pieces() as u64 + factors.pieces as u64, u32::MAX.into());
        if len > max { Err(Error::LayoutTooLarge { len, max }) } else { Ok(Some(factors)) }
    }

    /// Notes which tensors have live elements.
    pub(crate) fn keep_live(&mut self, layout: &Layout, groups: &GroupTable) {
        for (axes, tensor) in self.axes.chunks_exact_mut(2).zip(layout.tensors()) {
            let spans = groups.covering(tensor.range().start as u32, tensor.range().end as u32);
            let live: Vec<bool> = spans.map(|(.., span)| span.live()).collect();
            let live = match (live.contains(&true), live.contains(&false)) {
                (true, false) => Live::All,
                (true, true) => Live::Some,
                (false, _) => Live::None,
            };
            for axis in axes {
                axis.live = live;
            }
        }
    }

    /// Rows and columns of each tensor.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &[Axis]> {
        self.axes.chunks_exact(2)
    }

    /// Rows and columns of one tensor.
    pub(crate) fn tensor(&self, tensor: usize) -> &[Axis] {
        &self.axes[2 * tensor..2 * tensor + 2]
    }

    /// Where the values of a state are, among those of all.
    pub(crate) fn range(&self, name: &str) -> Option<Range<usize>> {
        let number = NAMES.iter().position(|known| *known == name)?;
        Some(if number == 0 { 0 } else { self.ends[number - 1] }..self.ends[number])
    }

    /// How many factors there are.
    pub(crate) fn values(&self) -> usize {
        self.lines
    }

    /// The pieces of which any element may lie in `start..end`: of the tensors that do.
    pub(crate) fn pieces_in(&self, layout_range: Range<u64>) -> Range<usize> {
        let before = |element: u64| self.axes.partition_point(|axis| (axis.start as u64) < element);
        // The tensor that begins before the range may reach into it.
        let (first, end) = (before(layout_range.start + 1).saturating_sub(2), before(layout_range.end));
        let piece = |axis: usize| self.axes.get(axis).map_or(self.pieces, |axis| axis.first_piece);
        piece(first)..piece(end)
    }

    fn words_before_pieces(&self) -> usize {
        HEADER + AXIS * self.axes.len() + self.lines + self.matrices
    }

    /// Where the device's table holds the values of a state.
    pub(crate) fn bytes(&self, name: &str) -> Option<Range<u64>> {
        let first = HEADER + AXIS * self.axes.len();
        self.range(name).map(|range| 4 * (first + range.start) as u64..4 * (first + range.end) as u64)
    }

    /// Words of the device's table: numbers of axes, lines and matrices, where the values, the means and the pieces' sums
    /// are; the axes; and all that they name, 0 before the first step.
    pub(crate) fn words(&self) -> Vec<u32> {
        let values = HEADER + AXIS * self.axes.len();
        let means = values + self.lines;
        let mut words = vec![self.axes.len(), self.lines, self.matrices, values, means, self.words_before_pieces()];
        for axis in &self.axes {
            let Axis { start, stride, len, first_piece, first_line, first_value, first_matrix, live, .. } = *axis;
            let pieces = axis.pieces_of_line();
            words.extend([start, stride, len, pieces, first_piece, first_line, first_value, first_matrix]);
            words.push(live as usize);
        }
        let mut words: Vec<u32> = words.into_iter().map(|word| word as u32).collect();
        words.resize(self.words_before_pieces() + self.pieces, 0);
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
        let place = |axis: &Axis| (axis.start, axis.stride, axis.len, axis.lines, axis.pieces_of_line());
        let places: Vec<_> = factors.axes.iter().map(place).collect();
        let nothing = |start| (start, 1, 0, 0, 0);
        assert_eq!(places[..2], [(0, 1, 100, 3, 2), (0, 100, 3, 100, 1)]);
        assert_eq!(places[2..4], [(300, 1, 1, 5, 1), nothing(300)]);
        assert_eq!(places[4..6].iter().map(|place| place.3).sum::<usize>(), 0);
        assert_eq!(places[6..8], [(305, 1, 4, 140, 1), (305, 4, 70, 8, 2)]);
        assert_eq!(places[8..], [(865, 1, 1, 1, 1), nothing(865)]);
        let ranges = NAMES.map(|name| factors.range(name).unwrap());
        assert_eq!(ranges, [0..143, 143..251, 251..257]);
        assert_eq!((factors.matrices, factors.pieces, factors.lines), (3, 6 + 100 + 5 + 140 + 16 + 1, 257));
        // Pieces of the tensors in the range, and of no other that begins or ends there.
        for (range, pieces) in [(0..300, 0..106), (299..301, 0..111), (305..866, 111..268), (864..865, 111..267)] {
            assert_eq!(factors.pieces_in(range), pieces);
        }
    }
}
