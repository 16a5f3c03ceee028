use std::ops::Range;

use super::factor_partials::FactorValues;
use super::segment_reduce::TensorRow;
use super::update_elements::{WholeStep, runs};
use crate::factors::Factors;
use crate::groups::GroupTable;
use crate::rule::{Grads, Step};
use crate::segments::Item;
use crate::tile::{NORM_BLOCK, ROW, TILE};

/// Parameters, gradients and states over the whole flat space, and what a rule keeps of tensors.
pub(crate) struct Whole<'a> {
    pub(crate) param: &'a [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) states: Vec<&'a [f32]>,
    pub(crate) factors: Option<(&'a Factors, &'a FactorValues)>,
    pub(crate) groups: &'a GroupTable,
    pub(crate) tensors: &'a [TensorRow],
}

/// Some elements of an item, with the same options; `start` is the flat index of the first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) start: usize,
    pub(crate) param: &'a [f32],
    pub(crate) grads: Grads<'a>,
    pub(crate) states: &'a [&'a [f32]],
    pub(crate) step: Step,
}

/// Sums of the elements of one item: those of a tile, of which each row has the same columns, follow each other. Lane l of
/// the device has the four columns from 4l on.
pub(crate) type Columns = [f32; COLUMNS];

const COLUMNS: usize = NORM_BLOCK / TILE * ROW;
pub(crate) const NO_COLUMNS: Columns = [0.0; COLUMNS];

/// The elements of a run, `len` from flat index `start` on, that lie in one row; counted from the first of the run.
pub(crate) struct Row {
    pub(crate) elements: Range<usize>,
    /// The first of the row's columns.
    pub(crate) columns: usize,
    /// Columns of the row that lie before the first element.
    pub(crate) before: usize,
}

#[inline(always)]
pub(crate) fn rows(start: usize, len: usize) -> impl Iterator<Item = Row> {
    runs(start, start + len, ROW).map(
        #[inline(always)]
        move |row| Row {
            columns: row.start % NORM_BLOCK / TILE * ROW,
            before: row.start % ROW,
            elements: row.start - start..row.end - start,
        },
    )
}

/// Sums over one item; `add` adds what it has of each element of a run. Twin of `shaders/items.wgsl`: of the eight lanes of a
/// tile, lane l adds up elements 4l to 4l + 3 of each of its eight rows.
pub(crate) fn sum_item(whole: &Whole<'_>, step: &WholeStep, item: Item, mut add: impl FnMut(Run<'_>)) {
    let mut variance = Vec::new();
    for (from, to, span) in whole.groups.covering(item.start, item.end) {
        let Some(tensor) = span.tensor else { continue };
        let row = whole.tensors.get(tensor as usize).copied().unwrap_or_default();
        let (start, run) = (from as usize, from as usize..to as usize);
        let mut states: Vec<&[f32]> = whole.states.iter().map(|state| &state[run.clone()]).collect();
        if let Some((factors, values)) = whole.factors {
            variance.resize(run.len(), 0.0);
            values.write_variance(factors.tensor(tensor as usize), start, &mut variance);
            states.push(&variance);
        }
        let (param, grads) = (&whole.param[run.clone()], step.grads(&whole.grad[run]));
        add(Run { start, param, grads, states: &states, step: step.of(whole.groups, span, row) });
    }
}

/// The sums of the lanes, which have four columns each, up to four kinds of them.
pub(crate) fn lanes_of(sums: &[Columns]) -> [[f32; 4]; 256] {
    let mut lanes = [[0.0; 4]; 256];
    for (name, sums) in sums.iter().enumerate() {
        for (lane, sum) in lanes.iter_mut().zip(sums.chunks_exact(4)) {
            lane[name] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        }
    }
    lanes
}
