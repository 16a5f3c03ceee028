//! The parts of an optimizer that are read whole before a checkpoint is written.

use super::entries::{Entry, Place};
use super::error::CheckpointError;
use crate::Stats;
use crate::grad_scaler::is_loss_scale;
use crate::kernels::bias_correction::BiasPowers;
use crate::kernels::control::ControlBlock;
use crate::metrics::{place_of, records_in_order};
use crate::plan::StepPlan;
use crate::storage::INFINITE;

/// Scalar states, norms, metric sums and history, in the form of the file: both engines give the same bytes.
#[derive(Debug, Clone)]
pub(crate) struct SmallState {
    pub(crate) stats: Stats,
    pub(crate) scalar_states: Vec<f32>,
    /// Bias corrections of the last step and of the next; `None` to compute them anew.
    bias_corrections: Option<[f32; 8]>,
    /// Bits of the last norms, oldest first.
    norms: Option<Vec<u32>>,
    /// Bits of the loss scale, and the applied steps since it changed.
    loss_scale: Option<[u32; 2]>,
    /// The part of a record after the control block.
    pub(crate) metrics: Vec<u8>,
    /// Records, oldest first.
    history: Option<Vec<u8>>,
}

impl SmallState {
    /// Before the first step, apart from the statistics of the last one.
    pub(super) fn new(plan: &StepPlan, stats: &Stats) -> Self {
        Self {
            stats: *stats,
            scalar_states: plan.rule.initial_scalars().iter().map(|(_, value)| *value).collect(),
            bias_corrections: None,
            norms: plan.norm_window().map(|_| Vec::new()),
            loss_scale: plan.settings.grad_scaler.as_ref().map(|scaler| [(scaler.init_scale as f32).to_bits(), 0]),
            metrics: plan.sampler.as_ref().map_or(Vec::new(), |sampler| sampler.record(0, &[])),
            history: plan.settings.history.as_ref().map(|_| Vec::new()),
        }
    }

    /// From an engine: the control block, the count of norms with the norms behind it, the words of the loss scale, the metric
    /// sums, the ring of records.
    pub(crate) fn of(
        plan: &StepPlan,
        block: &ControlBlock,
        (norms, loss_scale): (&[u32], &[u32]),
        metrics: &[u8],
        ring: &[u8],
    ) -> Self {
        let decoder = plan.decoder();
        let (stats, _) = decoder.decode(block, &[]);
        let scalars = plan.rule.initial_scalars().len();
        let of_record = |(record, (stats, _)): (&[u8], (Stats, _))| {
            let metrics = record.get(size_of::<ControlBlock>()..).unwrap_or_default();
            [bytemuck::bytes_of(&stats.block()), &canonical(&stats, metrics)].concat()
        };
        let history = plan.settings.history.as_ref();
        Self {
            stats,
            scalar_states: block.scalar_state.into_iter().take(scalars).collect(),
            bias_corrections: Some(bytemuck::cast([block.bias_correction, block.upcoming_bias_correction])),
            norms: plan.norm_window().map(|_| oldest_first(norms)),
            loss_scale: loss_scale.first_chunk().copied(),
            metrics: canonical(&stats, metrics),
            history: history.map(|_| records_in_order(ring, &decoder).into_iter().flat_map(of_record).collect()),
        }
    }

    pub(crate) fn entries(&self, plan: &StepPlan) -> Vec<Entry> {
        let mut entries = vec![
            Entry::small("scalar_states", &[self.scalar_states.len()], Place::ScalarStates),
            Entry::small("bias_corrections", &[2, 4], Place::BiasCorrections),
        ];
        if let Some(norms) = &self.norms {
            entries.push(Entry::small("norms", &[norms.len()], Place::Norms));
        }
        if self.loss_scale.is_some() {
            entries.push(Entry::small("loss_scale", &[2], Place::LossScale));
        }
        if !self.metrics.is_empty() {
            entries.push(Entry::small("metric_sums", &[self.metrics.len() / 4], Place::MetricSums));
        }
        if let Some(history) = &self.history {
            let size = plan.decoder().record_size() as usize;
            entries.push(Entry::small("history", &[history.len() / size, size / 4], Place::History));
        }
        entries
    }

    pub(crate) fn bytes(&self, place: Place) -> &[u8] {
        match place {
            Place::ScalarStates => bytemuck::cast_slice(&self.scalar_states),
            Place::BiasCorrections => self.bias_corrections.as_ref().map_or(&[], |values| bytemuck::cast_slice(values)),
            Place::Norms => bytemuck::cast_slice(self.norms.as_deref().unwrap_or_default()),
            Place::LossScale => self.loss_scale.as_ref().map_or(&[], |words| bytemuck::cast_slice(words)),
            Place::MetricSums => &self.metrics,
            Place::History => self.history.as_deref().unwrap_or_default(),
            _ => &[],
        }
    }

    /// Maximum bytes of a list that the program stores.
    pub(super) fn max_list_bytes(plan: &StepPlan, place: Place) -> usize {
        match place {
            Place::Norms => 4 * plan.norm_window().unwrap_or_default() as usize,
            _ => plan.ring_size().unwrap_or_default() as usize,
        }
    }

    /// Sets a part to bytes of the length that its entry has, or of any list.
    ///
    /// # Errors
    /// [`CheckpointError::NotACheckpoint`] for norms and a loss scale that no step gives.
    pub(super) fn set(&mut self, place: Place, bytes: Vec<u8>) -> Result<(), CheckpointError> {
        match place {
            Place::ScalarStates => self.scalar_states = bytemuck::pod_collect_to_vec(&bytes),
            Place::BiasCorrections => self.bias_corrections = bytemuck::try_pod_read_unaligned(&bytes).ok(),
            Place::Norms => {
                let norms: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
                // The bits of negative numbers are greater too.
                if norms.iter().any(|&norm| norm >= INFINITE) {
                    let problem = "its norms are not finite, or negative".to_owned();
                    return Err(CheckpointError::NotACheckpoint { problem });
                }
                self.norms = Some(norms);
            }
            Place::LossScale => {
                let words: Option<[u32; 2]> = bytemuck::try_pod_read_unaligned(&bytes).ok();
                if words.is_some_and(|[scale, _]| !is_loss_scale(f32::from_bits(scale))) {
                    let problem = "its loss scale is not positive and normal, or has no normal inverse".to_owned();
                    return Err(CheckpointError::NotACheckpoint { problem });
                }
                self.loss_scale = words;
            }
            Place::MetricSums => self.metrics = bytes,
            Place::History => self.history = Some(bytes),
            _ => {}
        }
        Ok(())
    }

    /// Forgets the bias corrections: the program has other betas.
    pub(super) fn forget_bias_corrections(&mut self) {
        self.bias_corrections = None;
    }

    /// The control block of an optimizer after the last step.
    pub(crate) fn block(&self, plan: &StepPlan) -> ControlBlock {
        let mut block = self.stats.block();
        let computed = || {
            let (powers, t) = (BiasPowers::new(&plan.rule.spec().bias_corrected), block.step);
            bytemuck::cast([powers.bias_correction(t), powers.bias_correction(t.wrapping_add(1))])
        };
        let corrections: [[f32; 4]; 2] = bytemuck::cast(self.bias_corrections.unwrap_or_else(computed));
        [block.bias_correction, block.upcoming_bias_correction] = corrections;
        block.loss_scale = self.loss_scale.map_or(0.0, |[scale, _]| f32::from_bits(scale));
        block.clip_value = plan.rule.clip_value().map_or(f32::INFINITY, |clip| clip.bound);
        for (state, value) in block.scalar_state.iter_mut().zip(&self.scalar_states) {
            *state = *value;
        }
        block
    }

    /// The loss scale, and the applied steps since it changed.
    pub(crate) fn loss_scale(&self) -> Option<[u32; 2]> {
        self.loss_scale
    }

    /// The last norms with their count before them, for a window of that many.
    pub(crate) fn norms_table(&self, window: u32) -> Vec<u32> {
        let norms = self.norms.as_deref().unwrap_or_default();
        let last = norms.get(norms.len().saturating_sub(window as usize)..).unwrap_or_default();
        let mut table = vec![last.len() as u32];
        table.extend(last);
        table.resize(1 + window as usize, 0);
        table
    }

    /// The ring of an optimizer that has recorded so many steps.
    pub(crate) fn ring(&self, plan: &StepPlan, recorded: u64) -> Option<Vec<u8>> {
        let (size, ring_size) = (plan.decoder().record_size(), plan.ring_size()?);
        let mut ring = vec![0; ring_size as usize];
        let records = self.history.as_deref().unwrap_or_default().chunks_exact(size as usize);
        let capacity = ring_size / size;
        for (back, record) in (0..capacity.min(recorded)).zip(records.rev()) {
            let at = place_of(recorded - back, size, ring_size) as usize;
            if let Some(place) = ring.get_mut(at..at + record.len()) {
                place.copy_from_slice(record);
            }
        }
        Some(ring)
    }
}

/// Metric sums of that step; zeros if they belong to another.
fn canonical(stats: &Stats, metrics: &[u8]) -> Vec<u8> {
    let executed = metrics.get(..4).map(bytemuck::pod_read_unaligned::<u32>);
    let is_own = executed == Some(stats.executed() as u32);
    if is_own { metrics.to_vec() } else { vec![0; metrics.len()] }
}

/// The norms of a table that begins with their count, oldest first.
fn oldest_first(table: &[u32]) -> Vec<u32> {
    let Some((&count, norms)) = table.split_first() else { return Vec::new() };
    let count = count as usize;
    if let Some(norms) = norms.get(..count) {
        return norms.to_vec();
    }
    let mut norms = norms.to_vec();
    let newest = count.checked_rem(norms.len()).unwrap_or_default();
    norms.rotate_left(newest);
    norms
}
