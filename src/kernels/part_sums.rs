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
    for (from, to, span) in inputs.groups.active_runs(part.start, part.end) {
        let Some(segment) = span.segment else { continue };
        let row = inputs.segments.get(segment as usize).copied().unwrap_or_default();
        for (from, to, lr_scale) in inputs.groups.column_runs(from, to) {
            let (start, range) = (from as usize, from as usize..to as usize);
            let mut states: Vec<&[f32]> = inputs.states.iter().map(|state| &state[range.clone()]).collect();
            if let Some((factors, values)) = inputs.factors {
                variance.resize(range.len(), 0.0);
                values.write_variance(factors.tensor(segment as usize), start, &mut variance);
                states.push(&variance);
            }
            let (param, grads) = (&inputs.param[range.clone()], context.grads(inputs.grad.load(range, &mut scratch)));
            let step = context.scalars(inputs.groups, &span, lr_scale, row);
            add(SpanView { start, param, grads, states: &states, step });
        }
    }
}
