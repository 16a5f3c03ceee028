use std::collections::HashMap;

use crate::error::{check, is_rate};
use crate::layout::{Member, TENSOR_ALIGNMENT};
use crate::segments::Segments;
use crate::{Error, Layout, Schedule};

/// What a group of tensors or elements does differently. The default changes nothing.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct GroupOptions {
    pub(crate) lr_scale: f64,
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

    /// Gives the group a learning rate of its own over time, which `lr_scale` multiplies (default: the optimizer's).
    /// What a rule or the statistics have for all groups at once goes by the optimizer's: `Stats::lr`, and the scalars of
    /// [`Prodigy`](crate::Prodigy) and the schedule-free rules. On a device each different rate takes 4 bytes of a uniform
    /// buffer, of which WebGPU grants 64 KiB.
    #[must_use]
    pub fn with_schedule(mut self, schedule: impl Into<Schedule>) -> Self {
        self.schedule = Some(schedule.into());
        self
    }

    /// Leaves parameters and states of the group as they are, and its gradients out of the norm and of the
    /// check for non-finite values, as a parameter without gradient is in PyTorch.
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
        let cycles = schedule.momentum(0)?.is_some();
        check(!cycles, &owner, "cycle_momentum", 1.0, "0 (false): the momentum is that of all groups")
    }
}

/// One run of elements with the same options, as the kernels see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GroupSpan {
    pub(crate) end: u32,
    /// Or, where any group has a schedule, the number of the learning rate in [`GroupTable::lrs`].
    pub(crate) lr_scale: f32,
    pub(crate) weight_decay: f32,
    /// Number of the tensor the elements lie in, where the rule sums over tensors, else 0; none where frozen or padding.
    pub(crate) tensor: Option<u32>,
}

impl GroupSpan {
    pub(crate) fn live(&self) -> bool {
        self.tensor.is_some()
    }
}

/// Elements per entry of the index that leads from an element to its span.
const INDEX_BLOCK: u32 = 1024;
/// Elements per word that says which of them are live.
pub(crate) const LIVE_BLOCK: u32 = TENSOR_ALIGNMENT as u32;
/// What a span's number is multiplied by in such a word, so that numbers of live elements, of which all are possible, fit
/// below it.
const LIVE_COUNTS: u32 = 2 * LIVE_BLOCK;

/// The options of every element, in ascending runs. Twin of `shaders/groups.wgsl`, `blocks.wgsl`, `padded.wgsl` and
/// `span.wgsl`.
#[derive(Debug, Clone)]
pub(crate) struct GroupTable {
    spans: Vec<GroupSpan>,
    has_blocks: bool,
    /// The first live span, if all others have the same options.
    only_options: Option<GroupSpan>,
    /// Different schedules of groups (`None` is the optimizer's) and scales, if any group has a schedule.
    scheduled: Vec<(Option<Schedule>, f32)>,
    /// What these are in the step at hand.
    lrs: Vec<f32>,
}

impl GroupTable {
    pub(crate) fn new(
        layout: &Layout,
        options: &[(String, GroupOptions)],
        weight_decay: f64,
        segments: Option<&Segments>,
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
        let any_schedule = of_group.iter().any(|group| group.schedule.is_some());
        let mut scheduled: Vec<(Option<Schedule>, f32)> = Vec::new();
        let mut lr_scale = |group: &GroupOptions| {
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
        let items = segments.map_or(&[][..], Segments::items);
        for span in layout.spans() {
            let (group, gap) = match span.member {
                Member::Gap => (&ungrouped, true),
                Member::Ungrouped => (&ungrouped, false),
                Member::Group(index) => (&of_group[index], false),
            };
            let live = !gap && !group.frozen;
            // What is frozen needs no learning rate.
            let lr_scale = lr_scale(if live { group } else { &ungrouped });
            loop {
                let start = spans.last().map_or(0, |last| last.end);
                let item = items.get(items.partition_point(|item| item.end <= start)).filter(|_| live);
                let next = GroupSpan {
                    end: item.map_or(u32::MAX, |item| item.end).min(span.end as u32),
                    lr_scale,
                    weight_decay: without_sign_of_zero(group.weight_decay.unwrap_or(weight_decay)),
                    tensor: live.then_some(item.map_or(0, |item| item.segment)),
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
        let lrs = vec![0.0; scheduled.len()];
        let mut live = spans.iter().filter(|span| span.live());
        let first = live.next().copied();
        let only_options = first.filter(|first| live.all(|span| GroupSpan { end: first.end, ..*span } == *first));
        let mut table = Self { spans, has_blocks: false, only_options, scheduled, lrs };
        table.has_blocks = table.can_have_blocks();
        Ok(table)
    }

    /// Brings the groups' learning rates to a step, of which the optimizer's is `lr`.
    pub(crate) fn set_lrs(&mut self, lr: f32, step: u64) -> Result<(), Error> {
        for ((schedule, scale), group_lr) in self.scheduled.iter().zip(&mut self.lrs) {
            let lr = schedule.as_ref().map_or(Ok(lr), |schedule| Ok(schedule.value(step)? as f32))?;
            *group_lr = lr * scale;
        }
        Ok(())
    }

    /// The groups' learning rates in the step at hand, by their numbers; none if no group has a schedule.
    pub(crate) fn lrs(&self) -> &[f32] {
        &self.lrs
    }

    /// How many fours of them the device's slots have.
    pub(crate) fn lr_fours(&self) -> u32 {
        self.lrs.len().div_ceil(4) as u32
    }

    /// The learning rate of a span, where the optimizer's is `lr`. Twin of `lr_of` in `shaders/lr_scale.wgsl` and
    /// `shaders/group_lrs.wgsl`.
    pub(crate) fn lr(&self, span: &GroupSpan, lr: f32) -> f32 {
        if self.lrs.is_empty() { lr * span.lr_scale } else { self.lrs[span.lr_scale as usize] }
    }

    /// Numbers of the tensors that live elements lie in.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = u32> {
        self.spans.iter().filter_map(|span| span.tensor)
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

    /// Whether the device's table has a word for every block of [`LIVE_BLOCK`] elements.
    pub(crate) fn has_blocks(&self) -> bool {
        self.has_blocks
    }

    /// Where in the device's table they begin.
    pub(crate) fn first_block(&self) -> u32 {
        self.len().div_ceil(INDEX_BLOCK) + 2
    }

    fn len(&self) -> u32 {
        self.spans.last().map_or(0, |span| span.end)
    }

    /// The words of the device's table, of which a binding may cover so many bytes: without those of blocks where they are too
    /// many.
    pub(crate) fn words_within(&mut self, binding: u64) -> Vec<u32> {
        let words = self.words();
        if !self.has_blocks || words.len() as u64 * 4 <= binding {
            return words;
        }
        self.has_blocks = false;
        self.words()
    }

    /// The words of the device's table: where the spans begin, the first span of every block of
    /// [`INDEX_BLOCK`] elements and of one block more, the words of blocks of [`LIVE_BLOCK`] elements if it has any, then
    /// four words per span.
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
            let (lr_scale, weight_decay) = (span.lr_scale.to_bits(), span.weight_decay.to_bits());
            words.extend([span.end, lr_scale, weight_decay, span.tensor.map_or(0, |tensor| tensor + 1)]);
        }
        words
    }

    /// Whether one word for each block of [`LIVE_BLOCK`] elements can say all there is to say: no live span begins within one.
    /// A single span needs none.
    fn can_have_blocks(&self) -> bool {
        (2..(u32::MAX / LIVE_COUNTS) as usize).contains(&self.spans.len())
            && self.covering(0, self.len()).all(|(start, _, span)| !span.live() || start.is_multiple_of(LIVE_BLOCK))
    }

    /// For each block of [`LIVE_BLOCK`] elements the number of its live span and how many of its elements are live.
    fn push_blocks(&self, words: &mut Vec<u32>) {
        let first = words.len();
        words.resize(first + self.len().div_ceil(LIVE_BLOCK) as usize, 0);
        let spans = (0..).zip(self.covering(0, self.len()));
        for (number, (start, end, _)) in spans.filter(|(_, (_, _, span))| span.live()) {
            for block in start / LIVE_BLOCK..end.div_ceil(LIVE_BLOCK) {
                let live = LIVE_BLOCK.min(end - block * LIVE_BLOCK);
                words[first + block as usize] = number * LIVE_COUNTS + live;
            }
        }
    }

    /// The live span that has all elements of `start..end`, if there is one.
    pub(crate) fn only_span(&self, start: u32, end: u32) -> Option<&GroupSpan> {
        let (_, to, span) = self.covering(start, end).next()?;
        (to == end && span.live()).then_some(span)
    }

    /// A live span, if all others of the whole space have the same options.
    pub(crate) fn only_options(&self) -> Option<&GroupSpan> {
        self.only_options.as_ref()
    }
}

/// In f32, 0 for -0: options that compare as equal are the same.
fn without_sign_of_zero(option: f64) -> f32 {
    option as f32 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(layout: crate::layout::LayoutBuilder, options: &[(&str, GroupOptions)]) -> GroupTable {
        let options: Vec<_> = options.iter().map(|(name, options)| (name.to_string(), options.clone())).collect();
        GroupTable::new(&layout.build().unwrap(), &options, 0.01, None).unwrap()
    }

    #[test]
    fn a_block_says_its_span_and_how_many_of_its_elements_are_live() {
        let layout = Layout::builder().tensor("a", &[65]).tensor("still", &[64]).group("still").tensor("b", &[3]);
        let mut table = table(layout, &[("still", GroupOptions::default().frozen())]);
        // Of a, padding and what is frozen, and b, the third span of which padding is the fourth.
        assert_eq!(table.spans.iter().map(|span| span.end).collect::<Vec<_>>(), [65, 192, 195, 256]);
        let words = table.words_within(u64::MAX);
        assert!(table.has_blocks());
        let blocks = table.first_block() as usize;
        assert_eq!(words[blocks..words[0] as usize], [64, 1, 0, 2 * 128 + 3]);
        assert_eq!(words[words[0] as usize + 8], 195);
        // Where a binding is too small for them, the search remains.
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
        // Padding within a block, and no second span.
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
        assert_eq!((span.lr_scale.to_bits(), span.weight_decay.to_bits()), (0, 0));
    }
}
