//! Sums over segment parts, shared by `segment_reduce` and `metrics_reduce`.

use super::update_elements::{SegmentRow, StepContext};
use crate::factors::{FactorValues, Factors};
use crate::groups::GroupTable;
use crate::rule::SpanView;
use crate::segments::SegmentPart;
use crate::storage::HostSlice;

/// Parameters, gradients, states and tables over the whole flat space.
pub(crate) struct StepInputs<'a> {
    pub(crate) param: &'a [f32],
    pub(crate) grad: HostSlice<'a>,
    pub(crate) states: Vec<&'a [f32]>,
    pub(crate) factors: Option<(&'a Factors, &'a FactorValues)>,
    pub(crate) groups: &'a GroupTable,
    pub(crate) segments: &'a [SegmentRow],
}

/// Calls `add` for the elements of each span in a part. Within a subtile, lane l of eight adds elements 4l to 4l + 3 of each
/// row: see [`crate::tile`].
pub(crate) fn sum_part(
    inputs: &StepInputs<'_>,
    context: &StepContext,
    part: SegmentPart,
    mut add: impl FnMut(SpanView<'_>),
) {
    let (mut variance, mut scratch) = (Vec::new(), Vec::new());
    for run in inputs.groups.option_runs(part.start, part.end, None) {
        let segment = run.span.segment.unwrap_or_default() as usize;
        let row = inputs.segments.get(segment).copied().unwrap_or_default();
        let (start, range) = (run.start as usize, run.start as usize..run.end as usize);
        let mut states: Vec<&[f32]> = inputs.states.iter().map(|state| &state[range.clone()]).collect();
        if let Some((factors, values)) = inputs.factors {
            variance.resize(range.len(), 0.0);
            values.write_variance(factors.tensor_of(segment, run.start as usize), start, &mut variance);
            states.push(&variance);
        }
        let (param, grads) = (&inputs.param[range.clone()], context.grads(inputs.grad.load(range, &mut scratch)));
        add(SpanView { start, param, grads, states: &states, step: context.scalars(inputs.groups, &run, row) });
    }
}
