use std::ops::Range;

use super::factors::FactorValues;
use super::measure::TensorRow;
use super::norm::{NORM_BLOCK, ROW, TILE};
use super::update::{RUN, WholeStep, runs};
use crate::factors::Factors;
use crate::groups::GroupTable;
use crate::rule::{Grads, Step};
use crate::segments::Item;

/// Parameters, gradients and states over the whole flat space, and what a rule keeps of tensors.
pub(crate) struct Whole<'a> {
    pub(crate) param: &'a [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) states: Vec<&'a [f32]>,
    pub(crate) factors: Option<(&'a Factors, &'a FactorValues)>,
    pub(crate) groups: &'a GroupTable,
    pub(crate) tensors: &'a [TensorRow],
}

/// Some elements of an item, with the same options.
pub(crate) struct Run<'a> {
    pub(crate) param: &'a [f32],
    pub(crate) grads: Grads<'a>,
    pub(crate) states: &'a [&'a [f32]],
    pub(crate) step: Step,
}

/// Sums over one item, as many as there are `sums`; `add` adds what it has of each element of a run. Twin of
/// `shaders/items.wgsl`: of the eight lanes of a tile, lane l adds up elements 4l to 4l + 3 of each of its eight rows.
pub(crate) fn sum_item(
    whole: &Whole<'_>,
    step: &WholeStep,
    item: Item,
    sums: &mut [[f32; RUN]],
    mut add: impl for<'a> FnMut(Run<'a>, &'a mut [&'a mut [f32]]),
) {
    let mut variance = [0.0; RUN];
    let mut terms = vec![[0.0; RUN]; sums.len()];
    for (from, to, span) in whole.groups.covering(item.start, item.end) {
        let Some(tensor) = span.tensor else { continue };
        let row = whole.tensors.get(tensor as usize).copied().unwrap_or_default();
        let step_of_span = step.of(whole.groups, span, row);
        for run in runs(from as usize, to as usize, RUN) {
            let mut states: Vec<&[f32]> = whole.states.iter().map(|state| &state[run.clone()]).collect();
            if let Some((factors, values)) = whole.factors {
                values.write_variance(factors.tensor(tensor as usize), run.start, &mut variance[..run.len()]);
                states.push(&variance[..run.len()]);
            }
            let mut of_run = Vec::with_capacity(terms.len());
            for terms in &mut terms {
                terms[..run.len()].fill(0.0);
                of_run.push(&mut terms[..run.len()]);
            }
            let (param, grads) = (&whole.param[run.clone()], step.grads(&whole.grad[run.clone()]));
            add(Run { param, grads, states: &states, step: step_of_span }, &mut of_run);
            for (sums, terms) in sums.iter_mut().zip(&terms) {
                add_rows(sums, terms, run.clone());
            }
        }
    }
}

/// Adds what each element of `run` has to the lane's sums, of which each row of a tile has the same.
fn add_rows(sums: &mut [f32; RUN], terms: &[f32; RUN], run: Range<usize>) {
    for row in runs(run.start, run.end, ROW) {
        let column = row.start % NORM_BLOCK / TILE * ROW + row.start % ROW;
        for (sum, term) in sums[column..].iter_mut().zip(&terms[row.start - run.start..row.end - run.start]) {
            *sum += term;
        }
    }
}

/// The sums of the lanes, which have four columns each, up to four kinds of them.
pub(crate) fn lanes_of(sums: &[[f32; RUN]]) -> [[f32; 4]; 256] {
    let mut lanes = [[0.0; 4]; 256];
    for (name, sums) in sums.iter().enumerate() {
        for (lane, sum) in lanes.iter_mut().zip(sums.chunks_exact(4)) {
            lane[name] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        }
    }
    lanes
}
