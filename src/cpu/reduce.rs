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
