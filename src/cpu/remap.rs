//! Rows that move, with their states.

use super::CpuOptimizer;
use crate::Error;
use crate::kernels::remap::{NewValues, remap};
use crate::plan::{NewRows, RowValues};
use crate::rows::RowTable;

/// A table of indices: for each row, the old row that it becomes. See [`Remap`](crate::Remap).
///
/// ```
/// use wgpu_optim::{CpuRemap, Layout, Optimizer, Rows, Sgd};
/// let layout = Layout::builder().packed().tensor("means", &[3, 2]).build()?;
/// let builder = Optimizer::builder(Sgd::default().with_momentum(0.9)).rows(Rows::default());
/// let mut optimizer = builder.build_cpu(&layout)?;
/// let mut params = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// optimizer.remap(&mut params, &CpuRemap::new(&[2, 0, 0]).with_state_sources(&[2, 0, -1]))?;
/// assert_eq!(params, [5.0, 6.0, 1.0, 2.0, 1.0, 2.0]);
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct CpuRemap<'a> {
    sources: &'a [i32],
    state_sources: Option<&'a [i32]>,
    new_params: Option<&'a [f32]>,
}

impl<'a> CpuRemap<'a> {
    /// Row r becomes the old row `sources[r]`; -1 is a new row. One index per row of the capacity.
    pub fn new(sources: &'a [i32]) -> Self {
        Self { sources, state_sources: None, new_params: None }
    }

    /// Sets other sources for states: see [`Remap::with_state_sources`](crate::Remap::with_state_sources).
    #[must_use]
    pub fn with_state_sources(mut self, sources: &'a [i32]) -> Self {
        self.state_sources = Some(sources);
        self
    }

    /// Sets the parameters of new rows: see [`Remap::with_new_params`](crate::Remap::with_new_params).
    #[must_use]
    pub fn with_new_params(mut self, params: &'a [f32]) -> Self {
        self.new_params = Some(params);
        self
    }
}

impl CpuOptimizer {
    /// Moves rows of `params` and of all states: see [`Optimizer::remap`](crate::Optimizer::remap).
    ///
    /// # Errors
    /// [`Error::NoRows`], [`Error::IndexCount`], [`Error::LengthMismatch`]; nothing has changed then.
    pub fn remap(&mut self, params: &mut [f32], table: &CpuRemap<'_>) -> Result<(), Error> {
        let old = params.to_vec();
        self.remap_to(&old, params, table)
    }

    /// As [`CpuOptimizer::remap`], from `params` into `new_params`: see [`Optimizer::remap_to`](crate::Optimizer::remap_to).
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::remap`].
    pub fn remap_to(&mut self, params: &[f32], new_params: &mut [f32], table: &CpuRemap<'_>) -> Result<(), Error> {
        let rows = self.plan.row_streams()?;
        let (live, capacity) = (self.plan.groups.rows().map_or(0, RowTable::live) as usize, rows.capacity);
        self.check_len("params", params.len())?;
        self.check_len("new_params", new_params.len())?;
        if let Some(given) = table.new_params {
            self.check_len("parameters of new rows", given.len())?;
        }
        let state_sources = table.state_sources.unwrap_or(table.sources);
        for (what, sources) in [("sources", table.sources), ("state_sources", state_sources)] {
            if sources.len() != capacity {
                let (expected, actual) = (capacity as u64, sources.len() as u64);
                return Err(Error::IndexCount { what, expected, actual });
            }
        }
        let mut is_invalid = false;
        for stream in &rows.streams {
            let tensors = &rows.tensors[stream.tensors.clone()];
            let sources = if stream.is_param { table.sources } else { state_sources };
            let state = &mut self.state;
            let correction = state.control.bias_correction;
            let mut moved = |old: &[f32], new: &mut [f32], fresh: NewValues<'_>| {
                is_invalid |= remap(tensors, (live, capacity), sources, fresh, old, new);
            };
            if stream.values == RowValues::Params {
                moved(params, new_params, table.new_params.map_or(NewValues::Keep, NewValues::Copy));
                continue;
            }
            let fresh = match stream.new_rows {
                NewRows::Given => NewValues::Keep,
                NewRows::Params => NewValues::Copy(new_params),
                NewRows::ScaledParams(number) => NewValues::Scale(new_params, correction[number]),
                NewRows::Initial(initial) => NewValues::Fill(initial),
            };
            let mut in_place = |values: &mut [f32]| {
                let old = values.to_vec();
                moved(&old, values, fresh);
            };
            match stream.values {
                RowValues::TrainingParams => {
                    let stored = state.training_params.as_mut().and_then(|numbers| numbers.as_mut().into_f32());
                    stored.into_iter().for_each(in_place);
                }
                RowValues::Accumulated => in_place(&mut state.accumulated),
                RowValues::State(number) => {
                    state.states[number].1.as_mut().into_f32().into_iter().for_each(in_place);
                }
                RowValues::Factors => state.factors.iter_mut().for_each(|factors| in_place(&mut factors.values)),
                RowValues::RowSteps => {
                    if let Some(counts) = &mut state.row_steps {
                        in_place(bytemuck::cast_slice_mut(&mut counts.steps));
                    }
                }
                RowValues::RowBiasCorrections => {
                    if let Some(counts) = &mut state.row_steps {
                        in_place(counts.bias_corrections.as_flattened_mut());
                    }
                }
                RowValues::SegmentStates => {
                    let mut states: Vec<f32> = state.segments.iter().flat_map(|row| row.state).collect();
                    in_place(&mut states);
                    for (row, moved) in state.segments.iter_mut().zip(states.chunks_exact(4)) {
                        row.state.copy_from_slice(moved);
                    }
                }
                RowValues::Params => {}
            }
        }
        self.state.control.invalid_rows = is_invalid.into();
        Ok(())
    }
}
