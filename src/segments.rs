use std::ops::Range;

use crate::groups::GroupTable;
use crate::layout::{Member, Tensor};
use crate::rule::{Rule, Segmentation, initial};
use crate::tile::NORM_BLOCK;
use crate::{Error, Layout};

/// Elements of one segment in one block of 8,192 elements of the flat space: what one workgroup sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) segment: u32,
}

/// What a rule's sums go over: tensors, units, groups or all elements, each cut into items. Twin of
/// `shaders/segments.wgsl`.
///
/// Items end where a segment ends or a block does, so that the order of every sum depends on the layout alone.
#[derive(Debug)]
pub(crate) struct Segments {
    items: Vec<Item>,
    /// From the first item of each segment to its last; those of other segments may lie between them.
    ranges: Vec<Range<usize>>,
    /// Whether any element of a segment is live; where all are frozen, its state stays as it is.
    live: Vec<bool>,
    /// The rule's values for a tensor before the first step.
    initial: [f32; 4],
}

impl Segments {
    /// The segments of a rule that measures.
    pub(crate) fn of_rule(layout: &Layout, rule: &dyn Rule) -> Option<Self> {
        let measures = !rule.measures().is_empty();
        measures.then(|| Self { initial: initial(&rule.tensor_states()), ..Self::new(layout, rule.segmentation()) })
    }

    pub(crate) fn new(layout: &Layout, segmentation: Segmentation) -> Self {
        let mut segments = Self { items: Vec::new(), ranges: Vec::new(), live: Vec::new(), initial: [0.0; 4] };
        match segmentation {
            Segmentation::Tensors => {
                for (segment, tensor) in layout.tensors().iter().enumerate() {
                    segments.add(segment, tensor.range());
                }
            }
            Segmentation::Units => {
                for tensor in layout.tensors() {
                    let units = if tensor.shape().len() > 1 { tensor.shape()[0] } else { 1 };
                    let (start, len) = (tensor.range().start, tensor.range().len() / units.max(1));
                    for unit in 0..units {
                        segments.add(segments.count(), start + unit * len..start + (unit + 1) * len);
                    }
                }
            }
            Segmentation::Groups => {
                let (mut start, mut tensors) = (0, layout.tensors().iter().map(Tensor::range).peekable());
                for span in layout.spans() {
                    let group = match span.member {
                        Member::Gap => None,
                        Member::Ungrouped => Some(layout.groups().len()),
                        Member::Group(group) => Some(group),
                    };
                    // Items end where tensors do, so that there may be a buffer for each.
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
                // Groups without elements are segments too, and a layout without elements or groups has one.
                let (least, end) = (layout.groups().len().max(1), segments.items.len());
                segments.ranges.resize(segments.count().max(least), end..end);
            }
            Segmentation::Whole => {
                for tensor in layout.tensors() {
                    segments.add(0, tensor.range());
                }
            }
        }
        segments.live = vec![true; segments.count()];
        segments
    }

    /// Adds elements to a segment, which ends no sooner than all before.
    fn add(&mut self, segment: usize, elements: Range<usize>) {
        let first = self.items.len();
        let mut start = elements.start;
        while start < elements.end {
            let end = elements.end.min((start / NORM_BLOCK + 1) * NORM_BLOCK);
            self.items.push(Item { start: start as u32, end: end as u32, segment: segment as u32 });
            start = end;
        }
        if self.ranges.len() <= segment {
            self.ranges.resize(segment + 1, first..first);
        }
        let range = &mut self.ranges[segment];
        if range.start == range.end {
            range.start = first;
        }
        range.end = self.items.len();
    }

    pub(crate) fn count(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn initial(&self) -> [f32; 4] {
        self.initial
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Number of the first item that starts at `element` or later, where no item may be cut.
    ///
    /// # Errors
    /// [`Error::CutTensor`] if `element` lies inside an item.
    pub(crate) fn item_at(&self, element: u64, rule: &str) -> Result<usize, Error> {
        let next = self.items.partition_point(|item| u64::from(item.end) <= element);
        match self.items.get(next) {
            Some(item) if u64::from(item.start) < element => Err(Error::CutTensor { rule: rule.to_owned(), element }),
            _ => Ok(next),
        }
    }

    /// Leaves the segments alone of which no element is live.
    pub(crate) fn keep_live(&mut self, groups: &GroupTable) {
        self.live.fill(false);
        for segment in groups.tensors() {
            self.live[segment as usize] = true;
        }
    }

    /// Where the items of each segment lie, maybe with others between them; nowhere if its state stays as it is.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.ranges.iter().zip(&self.live).map(|(range, &live)| range.start..if live { range.end } else { range.start })
    }

    /// Whether each of some items belongs to a segment.
    pub(crate) fn is_own(&self, segment: usize, items: Range<usize>) -> impl ExactSizeIterator<Item = bool> + Clone {
        self.items[items].iter().map(move |item| item.segment as usize == segment)
    }

    /// Where the device's table holds the states.
    pub(crate) fn state_bytes(&self) -> Range<u64> {
        16..16 + 16 * self.count() as u64
    }

    /// The rows of the device's table: their number, then per segment the states, the sums and the range of items,
    /// then per item its elements and its sums.
    pub(crate) fn words(&self) -> Vec<u32> {
        let count = self.count();
        let mut words = vec![count as u32, self.items.len() as u32, 0, 0];
        words.extend(self.initial.map(f32::to_bits).repeat(count));
        words.extend([0; 4].repeat(count));
        words.extend(self.ranges().flat_map(|range| [range.start as u32, range.end as u32, 0, 0]));
        words.extend(self.items.iter().flat_map(|item| [item.start, item.end, item.segment, 0, 0, 0, 0, 0]));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lars;

    #[test]
    fn items_end_with_tensors_and_blocks() {
        let layout =
            Layout::builder().tensor("a", &[3]).tensor("b", &[0]).tensor("c", &[8192]).packed().build().unwrap();
        let segments = Segments::of_rule(&layout, &Lars::default()).unwrap();
        let item = |start, end, segment| Item { start, end, segment };
        assert_eq!(segments.items(), [item(0, 3, 0), item(3, 8192, 2), item(8192, 8195, 2)]);
        assert_eq!(segments.ranges().collect::<Vec<_>>(), [0..1, 1..1, 1..3]);
        for (element, next) in [(0, 0), (3, 1), (8192, 2), (8195, 3)] {
            assert_eq!(segments.item_at(element, "lars").unwrap(), next);
        }
        assert!(matches!(segments.item_at(4, "lars"), Err(Error::CutTensor { element: 4, .. })));
    }
}
