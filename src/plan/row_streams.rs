//! The streams whose rows move in a remap.

use std::ops::Range;

use super::StepPlan;
use crate::Error;
use crate::kernels::remap::MovedTensor;
use crate::layout::TensorInfo;
use crate::rule::{ReduceBy, Reduction, four};

/// The numbers of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowValues {
    Params,
    /// The stored training parameters, if there are any.
    TrainingParams,
    Accumulated,
    /// A state over the flat space, by its number.
    State(usize),
    Factors,
    /// Four numbers per segment.
    SegmentStates,
    /// Step counts of rows: integers.
    RowSteps,
    RowBiasCorrections,
}

/// The values of new rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum NewRows {
    /// What the program gives; else unchanged.
    Given,
    /// Initial states, by column modulo 4.
    Initial([f32; 4]),
    /// The parameters.
    Params,
    /// The parameters times the bias correction of that number.
    ScaledParams(usize),
}

/// A stream whose rows move.
#[derive(Debug, Clone)]
pub(crate) struct RowStream {
    pub(crate) values: RowValues,
    /// Its tensors among [`RowStreams::tensors`].
    pub(crate) tensors: Range<usize>,
    /// Whether it moves with the parameters, not with the states.
    pub(crate) is_param: bool,
    pub(crate) new_rows: NewRows,
}

/// All streams whose rows move, the parameters first: others read new rows from these.
#[derive(Debug, Clone)]
pub(crate) struct RowStreams {
    pub(crate) capacity: usize,
    pub(crate) tensors: Vec<MovedTensor>,
    pub(crate) streams: Vec<RowStream>,
}

impl StepPlan {
    /// # Errors
    /// [`Error::NoRows`].
    pub(crate) fn row_streams(&self) -> Result<RowStreams, Error> {
        if !self.settings.precision.is_f32() {
            return Err(Error::Unsupported {
                what: "moving rows".to_owned(),
                with: "16-bit parameters or states".to_owned(),
                remedy: "keep parameters and states in f32; gradients may have 16 bits",
            });
        }
        let tensors = self.layout.tensors();
        let capacity = self.groups.rows().ok_or(Error::NoRows)?.rows() as usize;
        let mut rows = RowStreams { capacity, tensors: Vec::new(), streams: Vec::new() };
        let flat = rows.add_tensors(self.layout.len(), tensors.iter().map(TensorInfo::range));
        let has_steps = self.row_step_count().is_some();
        let mut add = |values, tensors: &Range<usize>, is_param, new_rows| {
            rows.streams.push(RowStream { values, tensors: tensors.clone(), is_param, new_rows });
        };
        add(RowValues::Params, &flat, true, NewRows::Given);
        add(RowValues::TrainingParams, &flat, true, NewRows::Params);
        if self.settings.accumulates {
            add(RowValues::Accumulated, &flat, false, NewRows::Initial([0.0; 4]));
        }
        for (number, state) in self.states.iter().enumerate() {
            let correction = self.rule.average_correction().filter(|_| number + 1 == self.states.len());
            let new_rows = match correction {
                // The count of its steps moves with the other states.
                Some(_) if has_steps => NewRows::Initial([state.initial; 4]),
                Some(correction) => NewRows::ScaledParams(correction),
                None if state.is_param => NewRows::Params,
                None => NewRows::Initial([state.initial; 4]),
            };
            let is_param = state.is_param && !(correction.is_some() && has_steps);
            add(RowValues::State(number), &flat, is_param, new_rows);
        }
        let states = |values, tensors, initial| RowStream {
            values,
            tensors,
            is_param: false,
            new_rows: NewRows::Initial(initial),
        };
        if let Some(factors) = &self.factors {
            let ranges = tensors.iter().enumerate();
            let ranges = ranges.flat_map(|(number, tensor)| factors.row_values(number, tensor.shape().len()));
            let tensors = rows.add_tensors(factors.values(), ranges);
            rows.streams.push(states(RowValues::Factors, tensors, [0.0; 4]));
        }
        let has_state_per_row = |reduction: &dyn Reduction| reduction.by() == ReduceBy::Unit;
        if self.rule.tensor_state().is_some() && self.rule.reduction().is_some_and(has_state_per_row) {
            let mut end = 0;
            // A vector is one unit, which stays.
            let units = tensors.iter().map(|tensor| {
                let start = end;
                end += if tensor.shape().len() > 1 { capacity } else { 1 };
                if tensor.shape().len() > 1 { 4 * start..4 * end } else { 4 * end..4 * end }
            });
            let units: Vec<_> = units.collect();
            let tensors = rows.add_tensors(4 * end, units);
            rows.streams.push(states(RowValues::SegmentStates, tensors, four(&self.rule.initial_tensor_state())));
        }
        if has_steps {
            for (values, columns) in [(RowValues::RowSteps, 1), (RowValues::RowBiasCorrections, 4)] {
                let tensors = rows.add_tensors(columns * capacity, std::iter::once(0..columns * capacity));
                rows.streams.push(states(values, tensors, [0.0; 4]));
            }
        }
        Ok(rows)
    }
}

impl RowStreams {
    /// Adds the tensors of a stream of `len` elements by their ranges. Elements between two ranges stay.
    fn add_tensors(&mut self, len: usize, ranges: impl IntoIterator<Item = Range<usize>>) -> Range<usize> {
        let first = self.tensors.len();
        let mut ranges: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        ranges.sort_by_key(|range| range.start);
        for (i, range) in ranges.iter().enumerate() {
            let end = ranges.get(i + 1).map_or(len, |next| next.start);
            self.tensors.push(MovedTensor::new(range.start, end, range.len().checked_div(self.capacity).unwrap_or(0)));
        }
        first..self.tensors.len()
    }
}
