use crate::cpu::NORM_BLOCK;
use crate::groups::GroupTable;
use crate::rule::{Rule, Segmentation, initial};
use crate::{Error, Layout};

/// Elements of one segment in one block of 8,192 elements of the flat space: what one workgroup sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) segment: u32,
}

/// What a rule's sums go over: the tensors, each cut into items. Twin of `shaders/segments.wgsl`.
///
/// Items end where a tensor ends or a block does, so that the order of every sum depends on the layout alone.
#[derive(Debug)]
pub(crate) struct Segments {
    items: Vec<Item>,
    /// First item of each segment, and one past the last.
    first: Vec<usize>,
    /// Whether any element of a segment is live; where all are frozen, its state stays as it is.
    live: Vec<bool>,
    /// The rule's values for a tensor before the first step.
    initial: [f32; 4],
}

impl Segments {
    /// The segments of a rule that measures.
    pub(crate) fn new(layout: &Layout, rule: &dyn Rule) -> Option<Self> {
        if rule.measures().is_empty() {
            return None;
        }
        let initial = initial(&rule.tensor_states());
        let mut segments = Self { items: Vec::new(), first: Vec::new(), live: Vec::new(), initial };
        for tensor in layout.tensors() {
            if segments.first.is_empty() || rule.segmentation() == Segmentation::Tensors {
                segments.first.push(segments.items.len());
            }
            let segment = segments.first.len() as u32 - 1;
            let mut start = tensor.range().start;
            while start < tensor.range().end {
                let end = tensor.range().end.min((start / NORM_BLOCK + 1) * NORM_BLOCK);
                segments.items.push(Item { start: start as u32, end: end as u32, segment });
                start = end;
            }
        }
        segments.live = vec![true; segments.first.len()];
        segments.first.push(segments.items.len());
        Some(segments)
    }

    pub(crate) fn count(&self) -> usize {
        self.first.len() - 1
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

    /// The items of each segment; none where its state stays as it is.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let ranges = self.first.windows(2).zip(&self.live);
        ranges.map(|(pair, &live)| pair[0]..if live { pair[1] } else { pair[0] })
    }

    /// Where the device's table holds the states.
    pub(crate) fn state_bytes(&self) -> std::ops::Range<u64> {
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
        let segments = Segments::new(&layout, &Lars::default()).unwrap();
        let item = |start, end, segment| Item { start, end, segment };
        assert_eq!(segments.items(), [item(0, 3, 0), item(3, 8192, 2), item(8192, 8195, 2)]);
        assert_eq!(segments.ranges().collect::<Vec<_>>(), [0..1, 1..1, 1..3]);
        for (element, next) in [(0, 0), (3, 1), (8192, 2), (8195, 3)] {
            assert_eq!(segments.item_at(element, "lars").unwrap(), next);
        }
        assert!(matches!(segments.item_at(4, "lars"), Err(Error::CutTensor { element: 4, .. })));
    }
}
