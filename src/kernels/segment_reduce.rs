//! The rule's sums over segments, first half: the sums of each part.

use super::part_sums::{StepInputs, sum_part};
use super::update_elements::StepContext;
use crate::rule::{Report, StepScalars, Terms};
use crate::segments::SegmentPart;
use crate::tile::{NO_COLUMNS, add, lane_sums, workgroup_sum};
use crate::transform::TransformedRule;

/// The sums of one part.
pub(crate) fn segment_reduce(
    rule: &TransformedRule,
    context: &StepContext,
    inputs: &StepInputs<'_>,
    part: SegmentPart,
) -> [f32; 4] {
    let Some(reduction) = rule.reduction() else { return [0.0; 4] };
    let mut sums = vec![NO_COLUMNS; reduction.sums().len()];
    sum_part(inputs, context, part, |span| {
        // The table still contains the sums of the previous step.
        let step = StepScalars { sums: [0.0; 4], ..span.step };
        reduction.terms(Terms::new(span, &mut sums, &mut Report::default()), &step);
    });
    workgroup_sum(&mut lane_sums(&sums), add)
}
