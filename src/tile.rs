//! The tile of 8,192 elements: the unit of all sums.

/// Elements of one partial, in units of the flat space.
pub(crate) const NORM_BLOCK: usize = 8192;
/// Elements that neighbours load at a time.
pub(crate) const ROW: usize = 32;
/// Elements that neighbours hold at a time: eight rows.
pub(crate) const TILE: usize = 8 * ROW;

/// The sum over the lanes of a workgroup, in an order that never changes: in each stage an eighth of the lanes left, or one of
/// fewer than eight, add up what lies that far apart. Twin of `reduce` in `shaders/partial.wgsl` and `shaders/reduce.wgsl`.
#[inline(always)]
pub(crate) fn reduce<T: Copy>(mut lanes: &mut [T], combine: impl Fn(T, T) -> T) -> T {
    while lanes.len() > 1 {
        let (sums, others) = lanes.split_at_mut(lanes.len().div_ceil(8));
        for others in others.chunks_exact(sums.len()) {
            for (sum, &other) in sums.iter_mut().zip(others) {
                *sum = combine(*sum, other);
            }
        }
        lanes = sums;
    }
    lanes[0]
}
