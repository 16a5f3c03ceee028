//! Metrics of a sampled step, first half: the sums of each part.

use super::part_sums::{StepInputs, sum_part};
use super::update_elements::StepContext;
use crate::rule::{Elements, Grads, Report, SpanView, Terms};
use crate::segments::SegmentPart;
use crate::tile::{NO_COLUMNS, add, lane_sums, workgroup_sum};
use crate::transform::TransformedRule;

/// The sums of one part: squares and clipped elements, then counts.
pub(crate) fn metrics_reduce(
    rule: &TransformedRule,
    context: &StepContext,
    inputs: &StepInputs<'_>,
    part: SegmentPart,
) -> [[f32; 4]; 2] {
    let (mut squares, mut counts) = (vec![NO_COLUMNS; 4], vec![NO_COLUMNS; 2]);
    let stored_bits = inputs.param.format.stored_bits();
    sum_part(inputs, context, part, |span| {
        let mut report = Report::default();
        rule.metric_of(Terms::new(span, &mut counts[..1], &mut report), &span.step);
        let mut updated = span.param.to_vec();
        let mut states: Vec<Vec<f32>> = span.states.iter().map(|state| state.to_vec()).collect();
        let mut states: Vec<&mut [f32]> = states.iter_mut().map(|state| &mut state[..]).collect();
        rule.update_by_rule(Elements::new(&mut updated, span.grads, &mut states, &mut report), &span.step);
        let factors = rule.clip_segment().map_or([1.0; 2], |clip| clip.clip_factors(span.step.sums));
        let (all_clipped, clip_value) = (factors[0] < 1.0, context.clip_value);
        // Gradients before clipping; the updated parameters in the place of a state.
        let grads = Grads { clip_value: f32::INFINITY, ..span.grads };
        let span = SpanView { grads, states: &[&updated], ..span };
        Terms::new(span, &mut squares, &mut report).each(
            #[inline(always)]
            move |param, grad, [updated]| {
                let change = updated - param;
                let is_clipped = if all_clipped | (grad.abs() > clip_value) { 1.0 } else { 0.0 };
                [grad * grad, param * param, change * change, is_clipped]
            },
        );
        Terms::new(span, &mut counts[1..], &mut report).each(
            #[inline(always)]
            move |param, grad, [updated]| {
                let is_update = updated.to_bits() != param.to_bits() || grad != 0.0;
                let is_lost = is_update && stored_bits(updated) == param.to_bits();
                [if is_lost { 1.0 } else { 0.0 }]
            },
        );
    });
    [squares, counts].map(|sums| workgroup_sum(&mut lane_sums(&sums), add))
}
