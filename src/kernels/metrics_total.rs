//! Metrics of a sampled step, second half: adds the parts of each segment.

use super::metric_sums::MetricSums;
use super::segment_update::sum_of_parts;

/// The sums of one segment. `sums` holds the parts of a range, each with whether it belongs to the segment.
pub(crate) fn metrics_total(sums: &(impl Iterator<Item = (bool, [[f32; 4]; 2])> + Clone)) -> MetricSums {
    let total = |half: usize| sum_of_parts(sums.clone().map(move |(is_own, sums)| (is_own, sums[half])));
    MetricSums::new(total(0), total(1))
}
