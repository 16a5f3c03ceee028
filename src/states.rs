//! States in host memory, with the parts of those in 8 bits.

use std::ops::Range;

use crate::host::{HostSlice, HostSliceMut};
use crate::params::round_stochastically;
use crate::random::further_bits;
use crate::storage::{CodeMap, Dtype, load_codes, store_codes};

/// Elements that keep their moments in f32 where others have 8 bits: those of small tensors, in ascending ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct F32Parts {
    parts: Vec<Range<usize>>,
    /// Elements of the parts before each.
    before: Vec<usize>,
    /// The elements that count.
    share: Range<usize>,
    /// Elements of the parts before the share.
    skipped: usize,
    len: usize,
}

impl F32Parts {
    /// Joins ranges that follow each other.
    pub(crate) fn new(ranges: impl Iterator<Item = Range<usize>>) -> Self {
        let mut all = Self { share: 0..usize::MAX, ..Self::default() };
        for range in ranges.filter(|range| !range.is_empty()) {
            match all.parts.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => {
                    all.before.push(all.len);
                    all.parts.push(range.clone());
                }
            }
            all.len += range.len();
        }
        all
    }

    /// Counts the elements of a share alone.
    pub(crate) fn within(self, share: Range<usize>) -> Self {
        let [skipped, end] = [share.start, share.end].map(|element| self.position(element));
        Self { share, skipped, len: end - skipped, ..self }
    }

    /// The parts of the share.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let own = |part: &Range<usize>| part.start.max(self.share.start)..part.end.min(self.share.end);
        self.parts.iter().map(own).filter(|part| !part.is_empty())
    }

    /// Count of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first part that ends after an element.
    fn part_after(&self, element: usize) -> Option<usize> {
        let part = self.parts.partition_point(|part| part.end <= element);
        (part < self.parts.len()).then_some(part)
    }

    pub(crate) fn contains(&self, element: usize) -> bool {
        self.part_after(element).is_some_and(|part| self.parts[part].start <= element)
    }

    /// Whether the elements of a tensor lie in a part.
    #[cfg(feature = "safetensors")]
    pub(crate) fn holds(&self, tensor: &Range<usize>) -> bool {
        !tensor.is_empty() && self.contains(tensor.start)
    }

    /// Count of elements before one of the share.
    pub(crate) fn position(&self, element: usize) -> usize {
        let position = match self.part_after(element) {
            Some(part) => self.before[part] + element.saturating_sub(self.parts[part].start),
            None => self.skipped + self.len,
        };
        position.saturating_sub(self.skipped).min(self.len)
    }

    /// Cuts a range where parts begin and end.
    pub(crate) fn cut(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut start = range.start;
        std::iter::from_fn(move || {
            let end = match self.part_after(start).map(|part| &self.parts[part]) {
                Some(part) if part.start <= start => part.end,
                Some(part) => part.start,
                None => range.end,
            };
            let next = start..end.min(range.end);
            start = next.end;
            (!next.is_empty()).then_some(next)
        })
    }
}

/// A state in 8 bits: its numbers among the states that an optimizer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodedState {
    pub(crate) map: CodeMap,
    pub(crate) codes: usize,
    pub(crate) scales: usize,
    /// The f32 of small tensors, one after the other, if there are any.
    pub(crate) small: Option<usize>,
}

/// A state of all elements.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StateSlice<'a> {
    Single(HostSlice<'a>),
    Coded { map: CodeMap, codes: &'a [u8], scales: &'a [f32], small: &'a [f32], parts: &'a F32Parts },
}

impl<'a> StateSlice<'a> {
    /// The numbers of a range: where they lie, or widened into `scratch`. `first` is the flat index of the first number.
    pub(crate) fn load<'b>(&self, range: Range<usize>, first: usize, scratch: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        let own = range.start - first..range.end - first;
        let (map, codes, scales, small, parts) = match *self {
            Self::Single(numbers) => return numbers.load(own, scratch),
            Self::Coded { map, codes, scales, small, parts } => (map, codes, scales, small, parts),
        };
        load_codes(map, &codes[own.clone()], scales, own.start, scratch);
        for part in parts.cut(range.clone()).filter(|part| parts.contains(part.start)) {
            let first = parts.position(part.start);
            scratch[part.start - range.start..part.end - range.start].copy_from_slice(&small[first..][..part.len()]);
        }
        scratch
    }
}

/// A state from element `start` on, to change it.
#[derive(Debug)]
pub(crate) enum StateSliceMut<'a> {
    Single(HostSliceMut<'a>),
    Coded { map: CodeMap, codes: &'a mut [u8], scales: &'a mut [f32], small: &'a mut [f32], parts: &'a F32Parts },
}

impl StateSliceMut<'_> {
    pub(crate) fn is_f32(&self) -> bool {
        matches!(self, Self::Single(numbers) if numbers.dtype() == Dtype::F32)
    }

    /// Cuts the state from element `start` on into shards of `len` elements, a multiple of all blocks.
    pub(crate) fn chunks(mut self, mut start: usize, len: usize) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            start += len;
            match &mut self {
                Self::Single(numbers) => (!numbers.is_empty()).then(|| Self::Single(numbers.take_first(len))),
                Self::Coded { codes: [], .. } => None,
                Self::Coded { map, codes, scales, small, parts } => {
                    let before = parts.position(start - len);
                    Some(Self::Coded {
                        map: *map,
                        codes: split_off_first(codes, len),
                        scales: split_off_first(scales, len / map.block_len()),
                        small: split_off_first(small, parts.position(start) - before),
                        parts,
                    })
                }
            }
        })
    }

    /// The numbers of a range, which begins a block: where they lie, or widened into `scratch`. `start` is the flat index of
    /// the shard; the range lies in or out of the f32 parts as a whole.
    pub(crate) fn load_mut<'b>(
        &'b mut self,
        start: usize,
        range: Range<usize>,
        scratch: &'b mut Vec<f32>,
    ) -> &'b mut [f32] {
        match self {
            Self::Single(numbers) => numbers.load_mut(range, scratch),
            Self::Coded { small, parts, .. } if parts.contains(start + range.start) => {
                &mut small[parts.position(start + range.start) - parts.position(start)..][..range.len()]
            }
            Self::Coded { map, codes, scales, .. } => {
                load_codes(*map, &codes[range.clone()], scales, range.start, scratch);
                scratch
            }
        }
    }

    /// Stores a range that `load_mut` has widened, if it has. With the random bits of its elements, rounding is stochastic;
    /// `number` is that of the stream.
    pub(crate) fn store(
        &mut self,
        start: usize,
        range: Range<usize>,
        values: &mut [f32],
        (random, number): (Option<&[u32]>, u32),
    ) {
        match self {
            Self::Single(numbers) if numbers.dtype() == Dtype::F32 => {}
            Self::Single(numbers) => {
                if let Some(random) = random {
                    round_stochastically(values, random, number);
                }
                numbers.store(range, values);
            }
            Self::Coded { parts, .. } if parts.contains(start + range.start) => {}
            Self::Coded { map, codes, scales, .. } => {
                let random = random.map(|bits| bits.iter().map(|&bits| further_bits(bits, number)).collect::<Vec<_>>());
                let scales = &mut scales[range.start / map.block_len()..];
                store_codes(*map, values, random.as_deref(), &mut codes[range], scales);
            }
        }
    }
}

/// Splits the first numbers off, as many as there are up to `len`.
#[expect(clippy::mut_mut, reason = "the slice itself becomes shorter")]
fn split_off_first<'a, T>(values: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    values.split_off_mut(..len.min(values.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_and_cut() {
        let parts = F32Parts::new([0..3, 3..5, 9..9, 10..14].into_iter());
        assert_eq!(parts.ranges().collect::<Vec<_>>(), [0..5, 10..14]);
        assert_eq!(parts.len(), 9);
        for element in 0..16 {
            let counted = (0..element).filter(|&before| parts.contains(before)).count();
            assert_eq!(parts.position(element), counted, "{element}");
        }
        assert_eq!(parts.cut(2..13).collect::<Vec<_>>(), [2..5, 5..10, 10..13]);
        assert_eq!(parts.cut(5..12).collect::<Vec<_>>(), [5..10, 10..12]);
        let own = parts.within(3..12);
        assert_eq!(own.ranges().collect::<Vec<_>>(), [3..5, 10..12]);
        assert_eq!([3, 5, 9, 10, 11, 12, 14].map(|element| own.position(element)), [0, 2, 2, 2, 3, 4, 4]);
        assert_eq!(F32Parts::default().cut(0..4).next(), Some(0..4));
    }
}
