//! Sums over segment parts, shared by `segment_reduce` and `metrics_reduce`.

use super::update_elements::{SegmentRow, StepContext};
use crate::factors::{FactorValues, Factors};
use crate::groups::GroupTable;
use crate::host::HostSlice;
use crate::params::ParamSlice;
use crate::rule::SpanView;
use crate::segments::SegmentPart;
use crate::states::StateSlice;

/// Parameters, gradients and tables over the whole flat space, and states from element `first` on.
pub(crate) struct StepInputs<'a> {
    pub(crate) param: ParamSlice<'a>,
    pub(crate) grad: HostSlice<'a>,
    pub(crate) states: Vec<StateSlice<'a>>,
    pub(crate) first: usize,
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
    let (mut variance, mut of_param, mut of_grad) = (Vec::new(), Vec::new(), Vec::new());
    let mut of_states = vec![Vec::new(); inputs.states.len()];
    for run in inputs.groups.option_runs(part.start, part.end, None) {
        let segment = run.span.segment.unwrap_or_default() as usize;
        let row = inputs.segments.get(segment).copied().unwrap_or_default();
        let (start, range) = (run.start as usize, run.start as usize..run.end as usize);
        let states = inputs.states.iter().zip(&mut of_states);
        let mut states: Vec<&[f32]> =
            states.map(|(state, scratch)| state.load(range.clone(), inputs.first, scratch)).collect();
        if let Some((factors, values)) = inputs.factors {
            variance.resize(range.len(), 0.0);
            values.write_variance(factors.tensor_of(segment, run.start as usize), start, &mut variance);
            states.push(&variance);
        }
        let param = inputs.param.load(range.clone(), &mut of_param);
        let grads = context.grads(inputs.grad.load(range, &mut of_grad));
        add(SpanView { start, param, grads, states: &states, step: context.scalars(inputs.groups, &run, row) });
    }
}
