//! The shares of the flat space: one per rank, each cut at tiles.

use std::ops::Range;

use crate::tile::TILE_LEN;

/// The elements of each rank, in the order of the ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shares(Vec<Range<usize>>);

impl Shares {
    /// Shares of as many tiles each as possible; the first ones have one more if the tiles do not divide.
    pub(super) fn new(len: usize, ranks: usize) -> Self {
        Self::with_unit(len, ranks, TILE_LEN)
    }

    /// Shares that end at multiples of `unit` elements.
    pub(super) fn with_unit(len: usize, ranks: usize, unit: usize) -> Self {
        let units = len.div_ceil(unit);
        let start = |rank: usize| len.min((units / ranks * rank + rank.min(units % ranks)) * unit);
        Self((0..ranks).map(|rank| start(rank)..start(rank + 1)).collect())
    }

    pub(super) fn of(&self, rank: usize) -> Range<usize> {
        self.0[rank].clone()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Range<usize>> {
        self.0.iter()
    }

    /// Cuts all shares into pieces of at most `len` elements. Yields the pieces of all ranks together, as many of them as
    /// the longest share has; pieces of shorter shares are empty.
    pub(super) fn pieces(&self, len: usize) -> impl Iterator<Item = Vec<Range<usize>>> {
        let longest = self.0.iter().map(Range::len).max().unwrap_or(0);
        (0..longest).step_by(len).map(move |first| {
            let piece =
                |share: &Range<usize>| share.end.min(share.start + first)..share.end.min(share.start + first + len);
            self.0.iter().map(piece).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_all_elements_once() {
        for (len, ranks) in [(0, 3), (5, 1), (5, 3), (3 * TILE_LEN, 2), (7 * TILE_LEN + 1, 4)] {
            let shares = Shares::new(len, ranks);
            let elements: Vec<usize> = shares.iter().cloned().flatten().collect();
            assert_eq!(elements, (0..len).collect::<Vec<_>>());
            assert!(shares.iter().all(|share| share.start % TILE_LEN == 0 || share.start == len));
            let mut pieces: Vec<usize> = shares.pieces(3_000).flatten().flatten().collect();
            pieces.sort_unstable();
            assert_eq!(pieces, elements);
        }
        let lens: Vec<_> = Shares::new(7 * TILE_LEN + 1, 4).iter().map(Range::len).collect();
        assert_eq!(lens, [2 * TILE_LEN, 2 * TILE_LEN, 2 * TILE_LEN, TILE_LEN + 1]);
    }
}
