//! Checkpoints of the CPU engine.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Read, Seek, Write};
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use super::CpuOptimizer;
use super::memory::Numbers;
#[cfg(not(target_arch = "wasm32"))]
use crate::checkpoint::replace_file;
use crate::checkpoint::{
    Checkpoint, CheckpointError, Contents, Entry, Header, LoadOptions, Loaded, Place, SmallState, WINDOW, Writer,
    bulk_entries,
};
use crate::host::{HostSlice, HostSliceMut};
use crate::kernels::bias_correction::BiasPowers;
use crate::kernels::percentile::Norms;
use crate::plan::Mode;

impl CpuOptimizer {
    /// Saves the optimizer, and `params` if they are given, to a file: see [`checkpoint`](crate::checkpoint). An error or an
    /// interruption leaves an older file as it is.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::Optimizer`] for parameters of another length.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: impl AsRef<Path>, params: Option<HostSlice<'_>>) -> Result<(), CheckpointError> {
        replace_file(path.as_ref(), |file| self.save_to(file, params))
    }

    /// As [`CpuOptimizer::save`], into a stream.
    ///
    /// # Errors
    /// [`CheckpointError::Stream`], and those of [`CpuOptimizer::save`].
    pub fn save_to(&self, out: impl Write, params: Option<HostSlice<'_>>) -> Result<(), CheckpointError> {
        self.plan.check_whole("save")?;
        params.map_or(Ok(()), |params| self.check_params(params))?;
        let plan = &self.plan;
        let small = self.small_state();
        let mut entries = bulk_entries(plan, params.is_some(), *plan.state.mode, &HashMap::new());
        entries.extend(small.entries(plan));
        let mut writer = Writer::new(out, &Header::new(plan, &plan.state, small.stats), &entries)?;
        for entry in &entries {
            writer.write(&self.entry_bytes(entry, &small, params))?;
        }
        writer.finish()
    }

    /// The parts of a checkpoint that are read whole.
    pub(crate) fn small_state(&self) -> SmallState {
        let (plan, state) = (&self.plan, &self.state);
        let norms = state.norms.as_ref().map_or(Vec::new(), Norms::table);
        let ring = state.history.as_ref().map_or(&[][..], |history| &history.ring);
        let loss_scale = state.loss_scale.map(|scale| [scale.scale.to_bits(), scale.growth_tracker]);
        let words = loss_scale.as_ref().map_or(&[][..], |words| &words[..]);
        SmallState::of(plan, &state.control, (&norms, words), &state.metrics, ring)
    }

    /// The bytes of a tensor of a checkpoint.
    pub(crate) fn entry_bytes<'a>(
        &'a self,
        entry: &Entry,
        small: &'a SmallState,
        params: Option<HostSlice<'a>>,
    ) -> Cow<'a, [u8]> {
        let (state, range) = (&self.state, entry.range.clone());
        let stream = match entry.place {
            Place::Params => params,
            Place::TrainingParams => state.training_params.as_ref().map(Numbers::as_slice),
            Place::State(number) => {
                let bytes = [range.start, range.end].map(|element| self.plan.state_bytes(number, element));
                return Cow::from(&state.states[number].1.as_slice().bytes()[bytes[0]..bytes[1]]);
            }
            _ => None,
        };
        if let Some(numbers) = stream {
            return Cow::from(numbers.get(range).map_or(&[][..], HostSlice::bytes));
        }
        let values = match (entry.place, &state.factors) {
            (Place::Accumulated, _) => &state.accumulated[range],
            (Place::Factors, Some(factors)) => &factors.values[range],
            (Place::FactorMeans, Some(factors)) => &factors.means[range],
            (Place::SegmentStates | Place::SegmentSums, _) => {
                let rows = &state.segments[range.start / 4..range.end / 4];
                let of_row = |row: &super::SegmentRow| {
                    if entry.place == Place::SegmentStates { row.state } else { row.sums }
                };
                let values: Vec<[f32; 4]> = rows.iter().map(of_row).collect();
                return Cow::from(bytemuck::cast_slice(&values).to_vec());
            }
            (Place::RowSteps, _) => {
                let steps = state.row_steps.as_ref().map_or(&[][..], |counts| &counts.steps[range]);
                return Cow::from(bytemuck::cast_slice(steps));
            }
            (Place::RowBiasCorrections, _) => {
                state.row_steps.as_ref().map_or(&[][..], |counts| &counts.bias_corrections.as_flattened()[range])
            }
            (Place::TensorSteps, _) => {
                let words: &[u32] = bytemuck::cast_slice(&state.tensor_steps);
                return Cow::from(bytemuck::cast_slice(&words[range]));
            }
            (small_place, _) => return Cow::from(small.bytes(small_place)),
        };
        Cow::from(bytemuck::cast_slice(values))
    }

    /// Continues from a file: the optimizer, and `params` if they are given. Tensors are matched by their names. The file is
    /// checked before anything changes.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`]; [`CheckpointError::Damaged`], [`CheckpointError::Mismatch`],
    /// [`CheckpointError::Tensors`], [`CheckpointError::Shape`], [`CheckpointError::Dtype`], [`CheckpointError::NoParams`],
    /// [`CheckpointError::UnknownTensor`], [`CheckpointError::Settings`], [`CheckpointError::Optimizer`]; nothing has
    /// changed then. [`CheckpointError::ChangedWhileRead`]. Without `params`, between `eval` or `perturb` and the way back:
    /// [`Error::EvaluationMode`](crate::Error::EvaluationMode), [`Error::Perturbed`](crate::Error::Perturbed).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(
        &mut self,
        path: impl AsRef<Path>,
        params: Option<HostSliceMut<'_>>,
        options: &LoadOptions,
    ) -> Result<Loaded, CheckpointError> {
        self.load_from(&mut Checkpoint::open(path)?, params, options)
    }

    /// As [`CpuOptimizer::load`], from an open checkpoint.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::load`].
    pub fn load_from<R: Read + Seek>(
        &mut self,
        checkpoint: &mut Checkpoint<R>,
        mut params: Option<HostSliceMut<'_>>,
        options: &LoadOptions,
    ) -> Result<Loaded, CheckpointError> {
        match &params {
            Some(params) => self.check_params(params.as_slice())?,
            // The file's mode would forget the stored parameters.
            None => self.plan.check_training("load")?,
        }
        let Contents { state, small, parts, loaded } = checkpoint.check(&self.plan, params.is_some(), options)?;
        let (dtype, len) = (self.plan.settings.precision.params.dtype(), self.plan.layout.len());
        self.state.training_params = (*state.mode != Mode::Training).then(|| Numbers::new(0, dtype, 0.0, len));
        // A file without an accumulator has no sum.
        self.state.accumulated.fill(0.0);
        // A file of an optimizer without such counts has no steps of rows and tensors.
        self.state.row_steps = self.plan.row_steps(small.stats.step as u32);
        self.state.tensor_steps = self.plan.tensor_steps(small.stats.step as u32).unwrap_or_default();
        self.set_scalar_states(&small.scalar_states)?;
        for part in &parts {
            let Entry { place, ref range, .. } = part.entry;
            let mut start = range.start;
            checkpoint.file.read(part, WINDOW, |bytes| {
                self.put(place, start, bytes, params.as_mut());
                start += part.entry.elements_in(bytes.len());
                Ok(())
            })?;
        }
        self.plan.restore(&state)?;
        self.powers = BiasPowers::new(&self.plan.rule.spec().bias_corrected);
        self.state.control = small.block(&self.plan);
        self.state.norms = self.plan.norm_window().map(|window| Norms::from_table(&small.norms_table(window)));
        if let (Some(scale), Some([bits, growth_tracker])) = (&mut self.state.loss_scale, small.loss_scale()) {
            (scale.scale, scale.growth_tracker) = (f32::from_bits(bits), growth_tracker);
        }
        if let (Some(history), Some(ring)) = (&mut self.state.history, small.ring(&self.plan, state.recorded)) {
            history.ring = ring;
        }
        self.state.metrics = small.metrics;
        Ok(loaded)
    }

    fn put(&mut self, place: Place, start: usize, bytes: &[u8], params: Option<&mut HostSliceMut<'_>>) {
        let (state, end) = (&mut self.state, start + bytes.len() / 4);
        let stream = match place {
            Place::Params => params.map(HostSliceMut::reborrow),
            Place::TrainingParams => state.training_params.as_mut().map(Numbers::as_mut),
            Place::State(number) => Some(state.states[number].1.as_mut()),
            _ => None,
        };
        if let Some(numbers) = stream {
            let first = match place {
                Place::State(number) => self.plan.state_bytes(number, start),
                _ => numbers.dtype().bytes(start as u64) as usize,
            };
            numbers.bytes_mut()[first..first + bytes.len()].copy_from_slice(bytes);
            return;
        }
        let target = match (place, &mut state.factors) {
            (Place::Accumulated, _) => &mut state.accumulated[start..end],
            (Place::Factors, Some(factors)) => &mut factors.values[start..end],
            (Place::FactorMeans, Some(factors)) => &mut factors.means[start..end],
            (Place::SegmentStates | Place::SegmentSums, _) => {
                let rows: Vec<[f32; 4]> = bytemuck::pod_collect_to_vec(bytes);
                for (row, values) in state.segments[start / 4..].iter_mut().zip(rows) {
                    *(if place == Place::SegmentStates { &mut row.state } else { &mut row.sums }) = values;
                }
                return;
            }
            (Place::RowSteps, _) => {
                let Some(counts) = &mut state.row_steps else { return };
                counts.steps[start..end].copy_from_slice(&bytemuck::pod_collect_to_vec::<u8, u32>(bytes));
                return;
            }
            (Place::RowBiasCorrections, _) => match &mut state.row_steps {
                Some(counts) => &mut counts.bias_corrections.as_flattened_mut()[start..end],
                None => return,
            },
            (Place::TensorSteps, _) => {
                let words: &mut [u32] = bytemuck::cast_slice_mut(&mut state.tensor_steps);
                bytemuck::cast_slice_mut(&mut words[start..end]).copy_from_slice(bytes);
                return;
            }
            _ => return,
        };
        bytemuck::cast_slice_mut(target).copy_from_slice(bytes);
    }
}
