//! Selects the sampled steps, and computes statistics from their metric sums.

use std::ops::Range;
use std::sync::Arc;

use super::history_options::HistoryOptions;
use super::stats::{GroupStats, Stats};
use crate::Layout;
use crate::groups::GroupTable;
use crate::kernels::control::ControlBlock;
use crate::kernels::metric_sums::MetricSums;
use crate::rule::ReduceBy;
use crate::segments::Segments;

/// The sampling interval, and the segments over which metrics are summed.
#[derive(Debug)]
pub(crate) struct MetricsSampler {
    every: u32,
    pub(crate) segments: Segments,
    /// Group names of the segments, `None` for the elements without a group. Empty unless metrics are per group.
    groups: Vec<Option<String>>,
    /// Count of active elements of each segment.
    active: Vec<u64>,
    has_rule_metric: bool,
}

impl MetricsSampler {
    /// `None` for a history without metrics.
    pub(crate) fn new(
        layout: &Layout,
        table: &GroupTable,
        options: &HistoryOptions,
        has_rule_metric: bool,
    ) -> Option<Self> {
        let every = options.norms_every?;
        let (by, groups) = if options.per_group {
            (ReduceBy::Group, layout.groups().iter().cloned().map(Some).chain([None]).collect())
        } else {
            (ReduceBy::All, Vec::new())
        };
        let segments = Segments::new(layout, by, [0.0; 4]);
        let mut active = vec![0; segments.count()];
        for part in segments.parts() {
            let spans = table.covering(part.start, part.end).filter(|(_, _, span)| span.is_active());
            active[part.segment as usize] += spans.map(|(from, to, _)| u64::from(to - from)).sum::<u64>();
        }
        Some(Self { every, segments, groups, active, has_rule_metric })
    }

    /// Whether the next step is sampled, after `recorded` steps.
    pub(crate) fn samples(&self, recorded: u64) -> bool {
        recorded.is_multiple_of(self.every.into())
    }

    /// Sets the metrics in the statistics of a step; returns the statistics of its groups. Does nothing unless the sums
    /// belong to this step: `executed` is the count of executed steps when they were written.
    pub(crate) fn complete(&self, stats: &mut Stats, executed: u32, sums: &[MetricSums]) -> Vec<GroupStats> {
        if executed == 0 || executed != stats.executed() as u32 {
            return Vec::new();
        }
        let all = self.stats_of(None, stats, sums, self.active.iter().sum());
        stats.param_norm = Some(all.param_norm);
        stats.update_norm = Some(all.update_norm);
        stats.update_ratio = Some(all.update_ratio);
        stats.clipped_fraction = Some(all.clipped_fraction);
        stats.rule_metric = all.rule_metric;
        stats.lost_updates = Some(all.lost_updates);
        let groups = self.groups.iter().zip(sums).zip(&self.active);
        groups.map(|((group, sums), &active)| self.stats_of(group.clone(), stats, &[*sums], active)).collect()
    }

    /// The statistics over segments with `active` active elements in total.
    fn stats_of(&self, group: Option<String>, stats: &Stats, sums: &[MetricSums], active: u64) -> GroupStats {
        let sum = |field: fn(&MetricSums) -> f32| sums.iter().map(|sums| f64::from(field(sums))).sum::<f64>();
        let [grad, param, update] =
            [sum(|sums| sums.grad_sq), sum(|sums| sums.param_sq), sum(|sums| sums.update_sq)].map(f64::sqrt);
        let fraction = |count: f64| (count / active.max(1) as f64) as f32;
        let clipped = if stats.clip_coef < 1.0 { active as f64 } else { sum(|sums| sums.clipped) };
        GroupStats {
            group,
            step: stats.step,
            grad_norm: (grad / f64::from(stats.clip_coef)) as f32,
            param_norm: param as f32,
            update_norm: update as f32,
            update_ratio: if update == 0.0 { 0.0 } else { update / param } as f32,
            clipped_fraction: fraction(clipped),
            rule_metric: self.has_rule_metric.then(|| fraction(sum(|sums| sums.counted))),
            lost_updates: fraction(sum(|sums| sums.lost)),
        }
    }

    /// Byte range of the metric table that a record contains: the count of executed steps, and the sums.
    pub(crate) fn record_bytes(&self) -> Range<u64> {
        16..32 + (size_of::<MetricSums>() * self.segments.count()) as u64
    }

    /// Bytes of the first part in the metric table.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn part_bytes(&self) -> Range<u64> {
        let start = 32 + 48 * self.segments.count() as u64;
        start..start + 48
    }

    /// The bytes of the metric table that a record contains. `sums` may be empty if no step was sampled.
    pub(crate) fn record(&self, executed: u32, sums: &[MetricSums]) -> Vec<u8> {
        let bytes = self.record_bytes();
        let mut record = vec![0; (bytes.end - bytes.start) as usize];
        record[..4].copy_from_slice(bytemuck::bytes_of(&executed));
        record[16..][..size_of_val(sums)].copy_from_slice(bytemuck::cast_slice(sums));
        record
    }

    /// Initial words of the metric table: see `shaders/kernels/metric_sums.wgsl`.
    pub(crate) fn words(&self) -> Vec<u32> {
        let (count, parts) = (self.segments.count(), self.segments.parts());
        let mut words = vec![count as u32, parts.len() as u32, 0, 0, 0, 0, 0, 0];
        words.extend([0; 8].repeat(count));
        words.extend(self.segments.ranges().flat_map(|range| [range.start as u32, range.end as u32, 0, 0]));
        words.extend(parts.iter().flat_map(|part| [part.start, part.end, part.segment, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        words
    }
}

/// Decodes the record of a step: the control block; with metrics, also the count of executed steps at the last sampled
/// step, and the sums of that step.
#[derive(Debug, Clone)]
pub(crate) struct RecordDecoder {
    pub(crate) max_consecutive_skips: u32,
    pub(crate) sampler: Option<Arc<MetricsSampler>>,
}

impl RecordDecoder {
    /// Size of a record in bytes.
    pub(crate) fn record_size(&self) -> u64 {
        let sums = self.sampler.as_ref().map_or(0..0, |sampler| sampler.record_bytes());
        size_of::<ControlBlock>() as u64 + (sums.end - sums.start)
    }

    /// `metrics` holds the part of the record after the control block.
    pub(crate) fn decode(&self, block: &ControlBlock, metrics: &[u8]) -> (Stats, Vec<GroupStats>) {
        let mut stats = Stats::new(block, self.max_consecutive_skips);
        let groups = match (&self.sampler, metrics.split_at_checked(16)) {
            (Some(sampler), Some((executed, sums))) => {
                let sums: Vec<MetricSums> = bytemuck::pod_collect_to_vec(sums);
                sampler.complete(&mut stats, bytemuck::pod_read_unaligned(&executed[..4]), &sums)
            }
            _ => Vec::new(),
        };
        (stats, groups)
    }

    pub(crate) fn decode_record(&self, record: &[u8]) -> (Stats, Vec<GroupStats>) {
        let (block, metrics) = record.split_at(size_of::<ControlBlock>());
        self.decode(&bytemuck::pod_read_unaligned(block), metrics)
    }
}
