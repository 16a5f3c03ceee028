//! The tile of 8,192 elements, the unit of reproducible sums, and how its elements are added.
//!
//! On the device eight lanes share a subtile of 256 contiguous elements and read it in rows of 32, four elements each.
//! The CPU engine adds in the same order: each column of a subtile, then four columns per lane, then the lanes.

use std::ops::Range;

/// Elements of a tile.
pub(crate) const TILE_LEN: usize = 8192;
/// Elements that eight lanes read at a time.
pub(crate) const ROW_LEN: usize = 32;
/// Elements that eight lanes hold at a time: eight rows.
pub(crate) const SUBTILE_LEN: usize = 8 * ROW_LEN;
/// Columns of all subtiles of a tile.
const COLUMNS: usize = TILE_LEN / SUBTILE_LEN * ROW_LEN;

/// One sum per column of a tile. Lane l of the device holds the four columns from 4l on.
pub(crate) type Columns = [f32; COLUMNS];

pub(crate) const NO_COLUMNS: Columns = [0.0; COLUMNS];

/// The elements of a row among those from `start` on, as [`rows`] yields them.
pub(crate) struct Row {
    /// Counted from `start`.
    pub(crate) elements: Range<usize>,
    /// The first of the row's columns in its tile.
    pub(crate) columns: usize,
    /// Columns before the first element.
    pub(crate) before: usize,
}

/// Cuts `len` elements from flat index `start` on into rows.
#[inline(always)]
pub(crate) fn rows(start: usize, len: usize) -> impl Iterator<Item = Row> {
    split_at_multiples(start, start + len, ROW_LEN).map(
        #[inline(always)]
        move |row| Row {
            columns: row.start % TILE_LEN / SUBTILE_LEN * ROW_LEN,
            before: row.start % ROW_LEN,
            elements: row.start - start..row.end - start,
        },
    )
}

/// Cuts `from..to` at every multiple of `len`.
pub(crate) fn split_at_multiples(from: usize, to: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    let next = move |from: usize| to.min((from / len + 1).saturating_mul(len));
    std::iter::successors((from < to).then(|| from..next(from)), move |range| {
        (range.end < to).then(|| range.end..next(range.end))
    })
}

/// The sums of the 256 lanes over their four columns each; one component per entry of `sums`, at most four.
pub(crate) fn lane_sums(sums: &[Columns]) -> [[f32; 4]; 256] {
    let mut lanes = [[0.0; 4]; 256];
    for (component, sums) in sums.iter().enumerate() {
        for (lane, sum) in lanes.iter_mut().zip(sums.chunks_exact(4)) {
            lane[component] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        }
    }
    lanes
}

/// The sum over the lanes of a workgroup, in the order of the device: each stage adds into an eighth of the lanes what
/// lies that far apart.
#[inline(always)]
pub(crate) fn workgroup_sum<T: Copy>(mut lanes: &mut [T], add: impl Fn(T, T) -> T) -> T {
    while lanes.len() > 1 {
        let (sums, others) = lanes.split_at_mut(lanes.len().div_ceil(8));
        for others in others.chunks_exact(sums.len()) {
            for (sum, &other) in sums.iter_mut().zip(others) {
                *sum = add(*sum, other);
            }
        }
        lanes = sums;
    }
    lanes[0]
}

/// Adds two vectors.
pub(crate) fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    std::array::from_fn(|i| a[i] + b[i])
}
