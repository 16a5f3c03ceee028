use std::ops::Range;

use crate::layout::{Member, TensorInfo};
use crate::rule::ReduceBy;
use crate::tile::{TILE_LEN, split_at_multiples};
use crate::{Error, Layout};

/// The elements of one segment in one tile: what one workgroup sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentPart {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) segment: u32,
}

/// Segments (tensors, units, groups or all elements), each cut into parts, and their table on the device.
///
/// Parts end with segments and with tiles: the order of every sum depends on the layout alone.
#[derive(Debug, Clone)]
pub(crate) struct Segments {
    parts: Vec<SegmentPart>,
    /// The parts of each segment, from the first to the last; parts of other segments may lie between.
    ranges: Vec<Range<usize>>,
    /// Whether any element of a segment is active; a frozen segment keeps its state.
    active: Vec<bool>,
    /// State of each segment before the first step.
    initial: [f32; 4],
}

impl Segments {
    pub(crate) fn new(layout: &Layout, by: ReduceBy, initial: [f32; 4]) -> Self {
        let mut segments = Self { parts: Vec::new(), ranges: Vec::new(), active: Vec::new(), initial };
        match by {
            ReduceBy::Tensor => {
                for (segment, tensor) in layout.tensors().iter().enumerate() {
                    segments.add(segment, tensor.range());
                }
            }
            ReduceBy::Unit => {
                for tensor in layout.tensors() {
                    let units = if tensor.shape().len() > 1 { tensor.shape()[0] } else { 1 };
                    let (start, len) = (tensor.range().start, tensor.range().len() / units.max(1));
                    for unit in 0..units {
                        segments.add(segments.count(), start + unit * len..start + (unit + 1) * len);
                    }
                }
            }
            ReduceBy::Group => {
                let (mut start, mut tensors) = (0, layout.tensors().iter().map(TensorInfo::range).peekable());
                for span in layout.spans() {
                    let group = match span.member {
                        Member::Gap => None,
                        Member::Ungrouped => Some(layout.groups().len()),
                        Member::Group(group) => Some(group),
                    };
                    // Parts end with tensors: each tensor may have a buffer of its own.
                    while start < span.end {
                        while tensors.next_if(|tensor| tensor.end <= start).is_some() {}
                        let tensors_end = tensors.peek().map_or(span.end, |tensor| tensor.end);
                        let end = span.end.min(tensors_end);
                        if let Some(group) = group {
                            segments.add(group, start..end);
                        }
                        start = end;
                    }
                }
                // A group without elements is a segment too; a layout without groups has one.
                let (min_count, end) = (layout.groups().len().max(1), segments.parts.len());
                segments.ranges.resize(segments.count().max(min_count), end..end);
            }
            ReduceBy::All => {
                for tensor in layout.tensors() {
                    segments.add(0, tensor.range());
                }
            }
        }
        segments.active = vec![true; segments.count()];
        segments
    }

    /// Adds elements to a segment. Calls must be in ascending order of elements.
    fn add(&mut self, segment: usize, elements: Range<usize>) {
        let first = self.parts.len();
        let part = |part: Range<usize>| SegmentPart {
            start: part.start as u32,
            end: part.end as u32,
            segment: segment as u32,
        };
        self.parts.extend(split_at_multiples(elements.start, elements.end, TILE_LEN).map(part));
        if self.ranges.len() <= segment {
            self.ranges.resize(segment + 1, first..first);
        }
        let range = &mut self.ranges[segment];
        if range.start == range.end {
            range.start = first;
        }
        range.end = self.parts.len();
    }

    pub(crate) fn count(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn parts(&self) -> &[SegmentPart] {
        &self.parts
    }

    /// Count of the parts that begin before an element.
    pub(crate) fn parts_before(&self, element: usize) -> usize {
        self.parts.partition_point(|part| (part.start as usize) < element)
    }

    /// Number of the first part that starts at `element` or later.
    ///
    /// # Errors
    /// [`Error::CutTensor`] if `element` lies inside a part.
    pub(crate) fn part_at(&self, element: u64, rule: &str) -> Result<usize, Error> {
        let next = self.parts.partition_point(|part| u64::from(part.end) <= element);
        match self.parts.get(next) {
            Some(part) if u64::from(part.start) < element => Err(Error::CutTensor { rule: rule.to_owned(), element }),
            _ => Ok(next),
        }
    }

    /// Marks only these segments as active. The states of all others stay unchanged.
    pub(crate) fn set_active(&mut self, segments: impl Iterator<Item = u32>) {
        self.active.fill(false);
        segments.for_each(|segment| self.active[segment as usize] = true);
    }

    /// A range that contains all parts of each segment, and possibly parts of others. Empty for inactive segments.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let of_segment =
            |(range, &active): (&Range<usize>, &bool)| range.start..if active { range.end } else { range.start };
        self.ranges.iter().zip(&self.active).map(of_segment)
    }

    /// Whether each of a range of parts belongs to a segment.
    pub(crate) fn is_own(&self, segment: usize, parts: Range<usize>) -> impl ExactSizeIterator<Item = bool> + Clone {
        self.parts[parts].iter().map(move |part| part.segment as usize == segment)
    }

    /// Bytes of the states in the device's table.
    pub(crate) fn state_bytes(&self) -> Range<u64> {
        16..16 + 16 * self.count() as u64
    }

    /// Bytes of the first part in the device's table.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn part_bytes(&self) -> Range<u64> {
        let start = 16 + 48 * self.count() as u64;
        start..start + 32
    }

    /// The device's table: see `shaders/segments.wgsl`.
    pub(crate) fn words(&self) -> Vec<u32> {
        let count = self.count();
        let mut words = vec![count as u32, self.parts.len() as u32, 0, 0];
        words.extend(self.initial.map(f32::to_bits).repeat(count));
        words.extend([0; 4].repeat(count));
        words.extend(self.ranges().flat_map(|range| [range.start as u32, range.end as u32, 0, 0]));
        words.extend(self.parts.iter().flat_map(|part| [part.start, part.end, part.segment, 0, 0, 0, 0, 0]));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_end_with_tensors_and_tiles() {
        let layout =
            Layout::builder().tensor("a", &[3]).tensor("b", &[0]).tensor("c", &[8192]).packed().build().unwrap();
        let segments = Segments::new(&layout, ReduceBy::Tensor, [0.0; 4]);
        let part = |start, end, segment| SegmentPart { start, end, segment };
        assert_eq!(segments.parts(), [part(0, 3, 0), part(3, 8192, 2), part(8192, 8195, 2)]);
        assert_eq!(segments.ranges().collect::<Vec<_>>(), [0..1, 1..1, 1..3]);
        for (element, next) in [(0, 0), (3, 1), (8192, 2), (8195, 3)] {
            assert_eq!(segments.part_at(element, "lars").unwrap(), next);
        }
        assert!(matches!(segments.part_at(4, "lars"), Err(Error::CutTensor { element: 4, .. })));
    }
}
