use std::collections::HashMap;

use crate::error::{check, is_rate};
use crate::layout::{Member, TENSOR_ALIGNMENT};
use crate::rows::RowTable;
use crate::segments::Segments;
use crate::{Error, Layout, Schedule};

/// Options of one group of tensors or elements. The default changes nothing.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct GroupOptions {
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub(crate) lr_scale: f64,
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub(crate) weight_decay: Option<f64>,
    pub(crate) frozen: bool,
    pub(crate) schedule: Option<Schedule>,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self { lr_scale: 1.0, weight_decay: None, frozen: false, schedule: None }
    }
}

impl GroupOptions {
    /// Multiplies the learning rate (default 1).
    #[must_use]
    pub fn with_lr_scale(mut self, lr_scale: f64) -> Self {
        self.lr_scale = lr_scale;
        self
    }

    /// Replaces the rule's weight decay (default: the rule's own).
    #[must_use]
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = Some(weight_decay);
        self
    }

    /// Sets a separate schedule for the group, which `lr_scale` multiplies. Default: the optimizer's schedule.
    ///
    /// `Stats::lr` and the scalar states of [`Prodigy`](crate::Prodigy) and of the schedule-free rules follow the
    /// optimizer's schedule. Each different rate takes 4 bytes of a uniform buffer, of which WebGPU grants 64 KiB.
    #[must_use]
    pub fn with_schedule(mut self, schedule: impl Into<Schedule>) -> Self {
        self.schedule = Some(schedule.into());
        self
    }

    /// Keeps parameters and states of the group unchanged. Its gradients count neither for the norm nor for the finite
    /// check, as those of a parameter with `requires_grad=False` in PyTorch.
    #[must_use]
    pub fn frozen(mut self) -> Self {
        self.frozen = true;
        self
    }

    pub(crate) fn validate(&self, group: &str) -> Result<(), Error> {
        let owner = format!("group {group:?}");
        let allowed = "0 or greater, finite";
        check(is_rate(self.lr_scale), &owner, "lr_scale", self.lr_scale, allowed)?;
        let weight_decay = self.weight_decay.unwrap_or(0.0);
        check(is_rate(weight_decay), &owner, "weight_decay", weight_decay, allowed)?;
        let Some(schedule) = &self.schedule else { return Ok(()) };
        if schedule.momentum(0)?.is_none() {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: format!("a schedule of group {group:?} that cycles the momentum"),
            with: "groups, which share the rule's momentum".to_owned(),
            remedy: "set `cycle_momentum` of the group's schedule to false",
        })
    }
}

/// Contiguous elements with equal options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GroupSpan {
    pub(crate) end: u32,
    /// Scale of the optimizer's learning rate. If any group has a schedule, or columns have scales: number of the learning
    /// rate in [`GroupTable::lrs`].
    pub(crate) lr_selector: f32,
    pub(crate) weight_decay: f32,
    /// Number of the segment; 0 without a reduction; `None` for frozen elements and padding.
    pub(crate) segment: Option<u32>,
}

impl GroupSpan {
    pub(crate) fn is_active(&self) -> bool {
        self.segment.is_some()
    }
}

/// Contiguous active elements with equal options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionRun {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) span: GroupSpan,
    /// Scale of the learning rate of these columns.
    pub(crate) lr_scale: f32,
    /// The first row, if rows have step counts: all rows of the run have the same count.
    pub(crate) row: Option<usize>,
}

/// Elements per entry of the index from elements to spans.
const INDEX_BLOCK: u32 = 1024;
/// Elements per block, whose word holds its span and the number of its active elements.
pub(crate) const BLOCK_LEN: u32 = TENSOR_ALIGNMENT as u32;
/// Factor of the span's number in that word; the number of active elements lies below it.
const SPAN_FACTOR: u32 = 2 * BLOCK_LEN;

/// The options of every element, in ascending spans, and their table on the device: see `shaders/device/group_lookup`.
#[derive(Debug, Clone)]
pub(crate) struct GroupTable {
    spans: Vec<GroupSpan>,
    has_blocks: bool,
    /// The first active span, if all others have the same options.
    only_options: Option<GroupSpan>,
    /// If any group has a schedule, or columns have scales: the different pairs of schedule (`None`: the optimizer's) and
    /// scale.
    scheduled: Vec<(Option<Schedule>, f32)>,
    /// Their learning rates in the present step, then the scales of columns.
    lrs: Vec<f32>,
    /// The rows that come and go, if there are any.
    rows: Option<RowTable>,
    /// The segments whose elements are inactive in the present step of the CPU engine; empty: none.
    missing: Vec<bool>,
}

impl GroupTable {
    pub(crate) fn new(
        layout: &Layout,
        options: &[(String, GroupOptions)],
        weight_decay: f64,
        segments: Option<&Segments>,
        rows: Option<RowTable>,
    ) -> Result<Self, Error> {
        let index: HashMap<&String, usize> = layout.groups().iter().zip(0..).collect();
        let mut of_group = vec![GroupOptions::default(); index.len()];
        for (name, group) in options {
            group.validate(name)?;
            let Some(&number) = index.get(name) else {
                return Err(Error::UnknownGroup { group: name.clone(), known: layout.groups().to_vec() });
            };
            of_group[number] = group.clone();
        }
        let scales = rows.as_ref().map_or(&[][..], RowTable::scales);
        let any_schedule = of_group.iter().any(|group| group.schedule.is_some()) || !scales.is_empty();
        let mut scheduled: Vec<(Option<Schedule>, f32)> = Vec::new();
        let mut lr_selector = |group: &GroupOptions| {
            let scale = without_sign_of_zero(group.lr_scale);
            if !any_schedule {
                return scale;
            }
            let lr = (group.schedule.clone(), scale);
            let number = scheduled.iter().position(|known| *known == lr).unwrap_or(scheduled.len());
            if number == scheduled.len() {
                scheduled.push(lr);
            }
            number as f32
        };
        let ungrouped = GroupOptions::default();
        let mut spans: Vec<GroupSpan> = Vec::new();
        let parts = segments.map_or(&[][..], Segments::parts);
        for span in layout.spans() {
            let (group, gap) = match span.member {
                Member::Gap => (&ungrouped, true),
                Member::Ungrouped => (&ungrouped, false),
                Member::Group(index) => (&of_group[index], false),
            };
            let active = !gap && !group.frozen;
            // A frozen span needs no learning rate.
            let lr_selector = lr_selector(if active { group } else { &ungrouped });
            loop {
                let start = spans.last().map_or(0, |last| last.end);
                let part = parts.get(parts.partition_point(|part| part.end <= start)).filter(|_| active);
                let next = GroupSpan {
                    end: part.map_or(u32::MAX, |part| part.end).min(span.end as u32),
                    lr_selector,
                    weight_decay: without_sign_of_zero(group.weight_decay.unwrap_or(weight_decay)),
                    segment: active.then_some(part.map_or(0, |part| part.segment)),
                };
                match spans.last_mut() {
                    Some(last) if (GroupSpan { end: next.end, ..*last }) == next => last.end = next.end,
                    _ => spans.push(next),
                }
                if next.end == span.end as u32 {
                    break;
                }
            }
        }
        let lrs = [&vec![0.0; scheduled.len()], scales].concat();
        let mut active = spans.iter().filter(|span| span.is_active());
        let first = active.next().copied();
        let only_options = first.filter(|first| active.all(|span| GroupSpan { end: first.end, ..*span } == *first));
        let mut table = Self { spans, has_blocks: false, only_options, scheduled, lrs, rows, missing: Vec::new() };
        table.has_blocks = table.can_have_blocks();
        Ok(table)
    }

    /// The elements where active ones follow inactive ones, or the other way round.
    pub(crate) fn activity_ends(&self) -> impl Iterator<Item = usize> {
        let pairs = self.spans.iter().zip(self.spans.iter().skip(1));
        pairs.filter(|(span, next)| span.is_active() != next.is_active()).map(|(span, _)| span.end as usize)
    }

    /// Sets the groups' learning rates for a step; the optimizer's is `lr`.
    pub(crate) fn set_lrs(&mut self, lr: f32, step: u64) -> Result<(), Error> {
        for ((schedule, scale), group_lr) in self.scheduled.iter().zip(&mut self.lrs) {
            let lr = schedule.as_ref().map_or(Ok(lr), |schedule| Ok(schedule.value(step)? as f32))?;
            *group_lr = lr * scale;
        }
        Ok(())
    }

    /// The rows that come and go, if there are any.
    pub(crate) fn rows(&self) -> Option<&RowTable> {
        self.rows.as_ref()
    }

    /// Sets which rows are active, and the scales of columns.
    pub(crate) fn set_rows(&mut self, set: impl FnOnce(&mut RowTable) -> Result<(), Error>) -> Result<(), Error> {
        let rows = self.rows.as_mut().ok_or(Error::NoRows)?;
        set(rows)?;
        self.lrs.truncate(self.scheduled.len());
        self.lrs.extend(rows.scales());
        Ok(())
    }

    /// Sets the segments whose elements are inactive; empty: none.
    pub(crate) fn set_missing(&mut self, missing: Vec<bool>) {
        self.missing = missing;
    }

    pub(crate) fn missing(&self) -> &[bool] {
        &self.missing
    }

    /// The words of the device's row table, if there are rows.
    pub(crate) fn row_words(&self) -> Option<Vec<u32>> {
        self.rows.as_ref().map(|rows| rows.words(self.scheduled.len()))
    }

    /// The groups' learning rates in the present step, then the scales of columns; none if no group has a schedule and no
    /// column a scale.
    pub(crate) fn lrs(&self) -> &[f32] {
        &self.lrs
    }

    /// Quads of learning rates in the step's uniforms.
    pub(crate) fn lr_quads(&self) -> u32 {
        self.lrs.len().div_ceil(4) as u32
    }

    /// The learning rate of a span: `lr_of` of the WGSL. The optimizer's is `lr`.
    pub(crate) fn lr(&self, span: &GroupSpan, lr: f32) -> f32 {
        if self.scheduled.is_empty() { lr * span.lr_selector } else { self.lrs[span.lr_selector as usize] }
    }

    /// The segments that have active elements.
    pub(crate) fn segments(&self) -> impl Iterator<Item = u32> {
        self.spans.iter().filter_map(|span| span.segment)
    }

    /// The spans that cover `start..end`, each clipped to it, as `(start, end, span)`.
    pub(crate) fn covering(&self, start: u32, end: u32) -> impl Iterator<Item = (u32, u32, &GroupSpan)> {
        let first = self.spans.partition_point(|span| span.end <= start);
        let mut at = start;
        self.spans[first..].iter().map_while(move |span| {
            let from = at;
            at = span.end.min(end);
            (from < end).then_some((from, at, span))
        })
    }

    /// As [`GroupTable::covering`]. Elements of dead and invisible rows, and of missing segments, are in inactive spans of
    /// their own.
    pub(crate) fn active_runs(&self, start: u32, end: u32) -> impl Iterator<Item = (u32, u32, GroupSpan)> {
        self.covering(start, end).flat_map(move |(from, to, span)| {
            let is_missing = |segment| self.missing.get(segment as usize) == Some(&true);
            let mut span = *span;
            span.segment = span.segment.filter(|&segment| !is_missing(segment));
            let rows = self.rows.as_ref().filter(|_| span.is_active());
            runs(from, to, move |from| {
                let (to, is_active) = rows.map_or((to, true), |rows| rows.run(from, to));
                (to, if is_active { span } else { GroupSpan { segment: None, ..span } })
            })
        })
    }

    /// The active elements in runs with the same options, of which `steps` holds the step count of each row.
    pub(crate) fn option_runs(&self, start: u32, end: u32, steps: Option<&[u32]>) -> impl Iterator<Item = OptionRun> {
        self.active_runs(start, end).filter(|(.., span)| span.is_active()).flat_map(move |(from, to, span)| {
            let rows = self.rows.as_ref();
            runs(from, to, move |from| {
                let Some(rows) = rows else { return (to, (1.0, None)) };
                let (to, lr_scale) = rows.column_run(from, to);
                let Some(steps) = steps else { return (to, (lr_scale, None)) };
                let (to, row) = rows.step_run(from, to, steps);
                (to, (lr_scale, Some(row)))
            })
            .map(move |(start, end, (lr_scale, row))| OptionRun { start, end, span, lr_scale, row })
        })
    }

    /// Whether the device's table has a word for every block of [`BLOCK_LEN`] elements.
    pub(crate) fn has_blocks(&self) -> bool {
        self.has_blocks
    }

    /// First of these words in the device's table.
    pub(crate) fn first_block(&self) -> u32 {
        self.len().div_ceil(INDEX_BLOCK) + 2
    }

    fn len(&self) -> u32 {
        self.spans.last().map_or(0, |span| span.end)
    }

    /// The words of the device's table, of which a binding covers at most so many bytes. Leaves the words of blocks out if
    /// they do not fit.
    pub(crate) fn words_within(&mut self, binding: u64) -> Vec<u32> {
        let words = self.words();
        if !self.has_blocks || words.len() as u64 * 4 <= binding {
            return words;
        }
        self.has_blocks = false;
        self.words()
    }

    /// The words of the device's table: see `shaders/device/group_lookup/search.wgsl`.
    fn words(&self) -> Vec<u32> {
        let blocks = self.len().div_ceil(INDEX_BLOCK);
        let last = self.spans.len().saturating_sub(1);
        let mut words = vec![0];
        let mut span = 0;
        for block in 0..=blocks {
            while span < last && self.spans[span].end <= block.saturating_mul(INDEX_BLOCK) {
                span += 1;
            }
            words.push(span as u32);
        }
        if self.has_blocks {
            self.push_blocks(&mut words);
        }
        words[0] = words.len() as u32;
        for span in &self.spans {
            let (lr_selector, weight_decay) = (span.lr_selector.to_bits(), span.weight_decay.to_bits());
            words.extend([span.end, lr_selector, weight_decay, span.segment.map_or(0, |segment| segment + 1)]);
        }
        words
    }

    /// Whether one word per block of [`BLOCK_LEN`] elements suffices: no active span begins within a block. A single span
    /// needs no words.
    fn can_have_blocks(&self) -> bool {
        (2..(u32::MAX / SPAN_FACTOR) as usize).contains(&self.spans.len())
            && self.covering(0, self.len()).all(|(start, _, span)| !span.is_active() || start.is_multiple_of(BLOCK_LEN))
    }

    /// For each block: the number of its active span, and the number of its active elements.
    fn push_blocks(&self, words: &mut Vec<u32>) {
        let first = words.len();
        words.resize(first + self.len().div_ceil(BLOCK_LEN) as usize, 0);
        let spans = (0..).zip(self.covering(0, self.len()));
        for (number, (start, end, _)) in spans.filter(|(_, (_, _, span))| span.is_active()) {
            for block in start / BLOCK_LEN..end.div_ceil(BLOCK_LEN) {
                let active = BLOCK_LEN.min(end - block * BLOCK_LEN);
                words[first + block as usize] = number * SPAN_FACTOR + active;
            }
        }
    }

    /// The active span that holds all of `start..end`.
    pub(crate) fn only_span(&self, start: u32, end: u32) -> Option<&GroupSpan> {
        let (_, to, span) = self.covering(start, end).next()?;
        (to == end && span.is_active()).then_some(span)
    }

    /// Whether all elements are active and have the same options.
    pub(crate) fn is_one_span(&self) -> bool {
        self.only_span(0, self.len()).is_some()
    }

    /// An active span, if all others have the same options.
    pub(crate) fn only_options(&self) -> Option<&GroupSpan> {
        self.only_options.as_ref()
    }
}

/// Cuts `start..end`: `run` returns the end of the run from an element on, and its value.
fn runs<T>(start: u32, end: u32, run: impl Fn(u32) -> (u32, T)) -> impl Iterator<Item = (u32, u32, T)> {
    let mut at = start;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let from = at;
            let (to, value) = run(from);
            at = to;
            (from, to, value)
        })
    })
}

/// In f32, and 0 for -0: equal options have equal bits.
fn without_sign_of_zero(option: f64) -> f32 {
    option as f32 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(layout: crate::layout::LayoutBuilder, options: &[(&str, GroupOptions)]) -> GroupTable {
        let options: Vec<_> = options.iter().map(|(name, options)| (name.to_string(), options.clone())).collect();
        GroupTable::new(&layout.build().unwrap(), &options, 0.01, None, None).unwrap()
    }

    #[test]
    fn a_block_holds_its_span_and_the_number_of_its_active_elements() {
        let layout = Layout::builder().tensor("a", &[65]).tensor("still", &[64]).group("still").tensor("b", &[3]);
        let mut table = table(layout, &[("still", GroupOptions::default().frozen())]);
        // Spans: a; padding and the frozen tensor; b; padding.
        assert_eq!(table.spans.iter().map(|span| span.end).collect::<Vec<_>>(), [65, 192, 195, 256]);
        let words = table.words_within(u64::MAX);
        assert!(table.has_blocks());
        let blocks = table.first_block() as usize;
        assert_eq!(words[blocks..words[0] as usize], [64, 1, 0, 2 * 128 + 3]);
        assert_eq!(words[words[0] as usize + 8], 195);
        // Too small a binding leaves the search.
        let without = table.words_within(words.len() as u64 * 4 - 1);
        assert!(!table.has_blocks());
        assert_eq!(without.len(), words.len() - 4);
    }

    #[test]
    fn spans_that_begin_within_a_block_are_searched_for() {
        let tensors = || Layout::builder().tensor("a", &[100]).tensor("b", &[100]);
        assert!(table(tensors(), &[]).has_blocks());
        assert!(!table(tensors().packed(), &[]).has_blocks());
        for (start, blocks) in [(32, false), (63, false), (64, true), (65, false), (66, false), (68, false)] {
            let slow = [("slow", GroupOptions::default().with_lr_scale(0.5))];
            assert_eq!(table(tensors().range(start..100, "slow"), &slow).has_blocks(), blocks, "from {start}");
        }
        // One span needs no blocks.
        assert!(!table(Layout::builder().tensor("a", &[128]), &[]).has_blocks());
    }

    #[test]
    fn options_are_the_same_where_all_of_them_are() {
        let layout = || Layout::builder().tensor("a", &[10]).tensor("b", &[10]).group("b").tensor("c", &[10]);
        let with = |options: GroupOptions| table(layout(), &[("b", options)]).only_options().is_some();
        let same = GroupOptions::default();
        assert!(with(same.clone()));
        assert!(with(same.clone().with_weight_decay(0.01)));
        assert!(with(same.clone().frozen()));
        assert!(!with(same.clone().with_lr_scale(0.5)));
        assert!(!with(same.with_weight_decay(0.02)));
    }

    #[test]
    fn a_negative_zero_is_a_zero() {
        let options = GroupOptions::default().with_lr_scale(-0.0).with_weight_decay(-0.0);
        let table = table(Layout::builder().tensor("a", &[10]).group("a"), &[("a", options)]);
        let span = table.only_options().unwrap();
        assert_eq!((span.lr_selector.to_bits(), span.weight_decay.to_bits()), (0, 0));
    }
}
