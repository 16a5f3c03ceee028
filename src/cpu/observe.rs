use super::measure::{TensorRow, Whole, add, over_lanes, reduce};
use super::norm::NORM_BLOCK;
use super::update::{RUN, WholeStep, runs};
use crate::clip::ClipForm;
use crate::groups::GroupTable;
use crate::observer::Totals;
use crate::rule::{Elements, MeasuredElements, Rule};
use crate::segments::Item;

/// The sums of the last observed step, and how many steps were executed then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observation {
    pub(crate) executed: u32,
    pub(crate) totals: Vec<Totals>,
}

/// What a step is about to do, summed over one item. Twin of `shaders/observe.wgsl`.
pub(crate) fn observe(
    rule: &dyn Rule,
    clip: &ClipForm,
    groups: &GroupTable,
    step: &WholeStep,
    tensors: &[TensorRow],
    whole: &Whole<'_>,
    item: Item,
) -> [[f32; 4]; 2] {
    let mut sums = vec![[0.0; RUN]; 5];
    let mut variance = [0.0; RUN];
    for (from, to, span) in groups.covering(item.start, item.end) {
        let Some(tensor) = span.tensor else { continue };
        let tensor_row = tensors.get(tensor as usize).copied().unwrap_or_default();
        let step_of_span = step.of(groups, span, tensor_row);
        // Runs end where rows do, so that each lies in one row of sums.
        for run in runs(from as usize, to as usize, RUN) {
            let (param, grad) = (&whole.param[run.clone()], &whole.grad[run.clone()]);
            let grads = step.grads(grad);
            let mut states: Vec<&[f32]> = whole.states.iter().map(|state| &state[run.clone()]).collect();
            if let Some((factors, values)) = whole.factors {
                values.write_variance(factors.tensor(tensor as usize), run.start, &mut variance[..run.len()]);
                states.push(&variance[..run.len()]);
            }
            let column = run.start % NORM_BLOCK % RUN;
            let [grad_sq, param_sq, update_sq, clipped, counted] = &mut sums[..] else { continue };
            let mut row = [&mut counted[column..column + run.len()]];
            rule.count(MeasuredElements::new(param, grads, &states, &mut row), &step_of_span);

            let mut updated = param.to_vec();
            let mut updated_states: Vec<Vec<f32>> = states.iter().map(|state| state.to_vec()).collect();
            let mut updated_states: Vec<&mut [f32]> = updated_states.iter_mut().map(|state| &mut state[..]).collect();
            rule.update(Elements::new(&mut updated, grads, &mut updated_states, &mut 0), &step_of_span);
            let coef = clip.segments.map_or(1.0, |segments| segments.coef(tensor_row.measured));
            for (i, (&grad, (&param, updated))) in grad.iter().zip(param.iter().zip(updated)).enumerate() {
                let scaled = grad * step.grad_factors[0] * step.grad_factors[1];
                let change = updated - param;
                let is_clipped = scaled.abs() > step.clip_value || coef < 1.0;
                grad_sq[column + i] += scaled * scaled;
                param_sq[column + i] += param * param;
                update_sq[column + i] += change * change;
                clipped[column + i] += if is_clipped { 1.0 } else { 0.0 };
            }
        }
    }
    [reduce(over_lanes(&sums[..4])), reduce(over_lanes(&sums[4..]))]
}

/// Adds the items of one segment up. Twin of `shaders/totals.wgsl`. `sums` has, for each of these items and others between
/// them, whether it is one.
pub(crate) fn totals(sums: impl Iterator<Item = (bool, [[f32; 4]; 2])>) -> Totals {
    let mut lanes = [[[0.0; 4]; 256]; 2];
    for (i, (_, sums)) in sums.enumerate().filter(|(_, (is_own, _))| *is_own) {
        for (lanes, sums) in lanes.iter_mut().zip(sums) {
            lanes[i % 256] = add(lanes[i % 256], sums);
        }
    }
    let [squares, counts] = lanes.map(reduce);
    Totals::new(squares, counts[0])
}
