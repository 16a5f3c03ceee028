//! What a history keeps of a step beside the control block: norms of parameters and updates, and shares of elements, of
//! all elements or of each group.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::history::{GroupStats, HistoryOptions};
use super::stats::Stats;
use crate::Layout;
use crate::groups::GroupTable;
use crate::kernels::control::ControlBlock;
use crate::rule::Segmentation;
use crate::segments::Segments;

/// Sums over the live elements of one segment. Twin of `Sums` in `shaders/observed.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
pub(crate) struct Totals {
    /// Squares of gradients, as the rule would see them but for clipping by value or segments.
    pub(crate) grad_sq: f32,
    pub(crate) param_sq: f32,
    pub(crate) update_sq: f32,
    /// Elements clipped by value or segments.
    pub(crate) clipped: f32,
    /// Elements that the rule counts.
    pub(crate) counted: f32,
    padding: [u32; 3],
}

impl Totals {
    pub(crate) fn new([grad_sq, param_sq, update_sq, clipped]: [f32; 4], counted: f32) -> Self {
        Self { grad_sq, param_sq, update_sq, clipped, counted, padding: [0; 3] }
    }
}

/// Which steps are observed, and what the sums go over.
#[derive(Debug)]
pub(crate) struct Observer {
    every: u32,
    pub(crate) segments: Segments,
    /// Names of the segments, and at the end that of the elements in no group, which may be none; empty where segments are
    /// no groups.
    groups: Vec<Option<String>>,
    /// Live elements of each segment.
    live: Vec<u64>,
    /// Whether the rule counts elements.
    counts: bool,
}

impl Observer {
    /// Of a history that observes steps at all.
    pub(crate) fn new(layout: &Layout, table: &GroupTable, options: &HistoryOptions, counts: bool) -> Option<Self> {
        let every = options.norms_every?;
        let (segmentation, groups) = if options.per_group {
            (Segmentation::Groups, layout.groups().iter().cloned().map(Some).chain([None]).collect())
        } else {
            (Segmentation::Whole, Vec::new())
        };
        let segments = Segments::new(layout, segmentation);
        let mut live = vec![0; segments.count()];
        for item in segments.items() {
            let spans = table.covering(item.start, item.end).filter(|(_, _, span)| span.live());
            live[item.segment as usize] += spans.map(|(from, to, _)| u64::from(to - from)).sum::<u64>();
        }
        Some(Self { every, segments, groups, live, counts })
    }

    /// Whether the step after so many recorded ones is observed.
    pub(crate) fn observes(&self, recorded: u64) -> bool {
        recorded.is_multiple_of(self.every.into())
    }

    /// Adds what the totals say to the statistics of a step, and gives those of its groups. Totals taken when so many steps were
    /// `executed` say nothing of any but the last of these.
    pub(crate) fn complete(&self, stats: &mut Stats, executed: u32, totals: &[Totals]) -> Vec<GroupStats> {
        if executed == 0 || executed != stats.executed() as u32 {
            return Vec::new();
        }
        let whole = self.of(None, stats, totals, self.live.iter().sum());
        stats.param_norm = Some(whole.param_norm);
        stats.update_norm = Some(whole.update_norm);
        stats.update_ratio = Some(whole.update_ratio);
        stats.clipped_fraction = Some(whole.clipped_fraction);
        stats.rule_fraction = whole.rule_fraction;
        let groups = self.groups.iter().zip(totals).zip(&self.live);
        groups.map(|((group, totals), &live)| self.of(group.clone(), stats, &[*totals], live)).collect()
    }

    /// What totals say of so many elements.
    fn of(&self, group: Option<String>, stats: &Stats, totals: &[Totals], live: u64) -> GroupStats {
        let sum = |part: fn(&Totals) -> f32| totals.iter().map(|totals| f64::from(part(totals))).sum::<f64>();
        let [grad, param, update] =
            [sum(|totals| totals.grad_sq), sum(|totals| totals.param_sq), sum(|totals| totals.update_sq)]
                .map(f64::sqrt);
        let fraction = |count: f64| (count / live.max(1) as f64) as f32;
        let clipped = if stats.clip_coef < 1.0 { live as f64 } else { sum(|totals| totals.clipped) };
        GroupStats {
            group,
            step: stats.step,
            grad_norm: (grad / f64::from(stats.clip_coef)) as f32,
            param_norm: param as f32,
            update_norm: update as f32,
            update_ratio: if update == 0.0 { 0.0 } else { update / param } as f32,
            clipped_fraction: fraction(clipped),
            rule_fraction: self.counts.then(|| fraction(sum(|totals| totals.counted))),
        }
    }

    /// Where the device's table holds the number of steps executed, and the sums of the segments.
    pub(crate) fn record_bytes(&self) -> std::ops::Range<u64> {
        16..32 + (size_of::<Totals>() * self.segments.count()) as u64
    }

    /// The rows of the device's table.
    pub(crate) fn words(&self) -> Vec<u32> {
        let (count, items) = (self.segments.count(), self.segments.items());
        let mut words = vec![count as u32, items.len() as u32, 0, 0, 0, 0, 0, 0];
        words.extend([0; 8].repeat(count));
        words.extend(self.segments.ranges().flat_map(|range| [range.start as u32, range.end as u32, 0, 0]));
        words.extend(items.iter().flat_map(|item| [item.start, item.end, item.segment, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        words
    }
}

/// What makes statistics of the records that steps leave: a control block each, and where steps are observed, the number of
/// steps executed when that was last done, and the totals.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) max_consecutive_skips: u32,
    pub(crate) observer: Option<Arc<Observer>>,
}

impl Reader {
    /// Bytes of a record.
    pub(crate) fn record_size(&self) -> u64 {
        let observed = self.observer.as_ref().map_or(0..0, |observer| observer.record_bytes());
        size_of::<ControlBlock>() as u64 + (observed.end - observed.start)
    }

    pub(crate) fn stats(&self, block: &ControlBlock, executed: u32, totals: &[Totals]) -> (Stats, Vec<GroupStats>) {
        let mut stats = Stats::new(block, self.max_consecutive_skips);
        let groups = self.observer.as_ref().map(|observer| observer.complete(&mut stats, executed, totals));
        (stats, groups.unwrap_or_default())
    }

    pub(crate) fn read(&self, record: &[u8]) -> (Stats, Vec<GroupStats>) {
        let (block, observed) = record.split_at(size_of::<ControlBlock>());
        let block: ControlBlock = bytemuck::pod_read_unaligned(block);
        let Some((executed, totals)) = observed.split_at_checked(16) else {
            return self.stats(&block, 0, &[]);
        };
        let totals: Vec<Totals> = bytemuck::pod_collect_to_vec(totals);
        self.stats(&block, bytemuck::pod_read_unaligned(&executed[..4]), &totals)
    }
}
