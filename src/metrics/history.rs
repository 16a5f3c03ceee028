//! The statistics of the last steps: kept where the optimizer is, read as a whole, written as CSV, JSON lines or for
//! TensorBoard.
//!
//! ```
//! use wgpu_optim::history::{HistoryOptions, write_csv};
//! use wgpu_optim::{AdamW, Layout, Optimizer};
//! let layout = Layout::builder().tensor("weight", &[3]).group("first").tensor("bias", &[1]).build()?;
//! let options = HistoryOptions::steps(1_000).with_norms_every(50).per_group();
//! let mut optimizer = Optimizer::builder(AdamW::default()).history(options).build_cpu(&layout)?;
//! let mut params = vec![1.0; layout.len()];
//! optimizer.step(&mut params, &vec![0.5; layout.len()])?;
//! let history = optimizer.history()?;
//! assert_eq!(history.steps[0].param_norm, Some(2.0));
//! assert_eq!(history.groups[0].group.as_deref(), Some("first"));
//! # #[cfg(feature = "serde")]
//! write_csv(&history.groups, std::io::stdout())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::VecDeque;

use wgpu::BufferUsages;

use super::sampler::Reader;
use super::stats::{Pending, StagingPool, Stats};
#[cfg(feature = "tensorboard")]
pub use super::tensorboard::write_events;
use crate::Error;
use crate::error::check;
use crate::kernels::control::ControlBlock;

/// The statistics of several steps, on their way from the device.
pub type PendingHistory = Pending<History>;

/// What an optimizer keeps of its last steps.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct HistoryOptions {
    pub(crate) steps: u32,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) norms_every: Option<u32>,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) per_group: bool,
}

impl HistoryOptions {
    /// Keeps the statistics of the last `steps` steps, from 1 to 1,000,000: on a device 112 bytes and one copy for each.
    #[must_use]
    pub fn steps(steps: u32) -> Self {
        Self { steps, norms_every: None, per_group: false }
    }

    /// Takes the norms of parameters and updates, and what else [`Stats`] has as an `Option`, in the first of every `steps`
    /// steps. Default: never.
    ///
    /// Such a step reads parameters, gradients and states once more and takes the norm of the gradients, whatever the others
    /// do: one dispatch more per chunk and one to add up, and where the others are bare, one more of each for the norm. With
    /// AdamW it moves 48 bytes per parameter in place of 28 (clipped, of 32), in one step of 50 that is 1.4 % more in all.
    /// Processors compute longer than they move: on the CPU engine such a step took 3.1 to 3.9 times as long as the others, on a
    /// software driver 1.9 to 2.2 times (`benches/NOTES.md`), so that there one step in 200 stays below 2 % in all.
    ///
    /// On a device each kept step takes 48 bytes more. Slices may be cut only between tensors and at multiples of 8,192
    /// elements. Rules that measure, and clipping by norms of groups or units, need one storage buffer more.
    #[must_use]
    pub fn with_norms_every(mut self, steps: u32) -> Self {
        self.norms_every = Some(steps);
        self
    }

    /// Takes the norms of each group of the layout too: [`History::groups`], in as many steps. Default: of all parameters
    /// only. On a device each kept step takes 32 bytes more for every group after the first.
    #[must_use]
    pub fn per_group(mut self) -> Self {
        self.per_group = true;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let steps = self.steps;
        check((1..=1_000_000).contains(&steps), "history", "steps", steps.into(), "1 to 1,000,000")?;
        let Some(every) = self.norms_every else {
            let allowed = "false without norms: call `.with_norms_every(steps)`";
            return check(!self.per_group, "history", "per_group", 1.0, allowed);
        };
        check(every > 0, "history", "norms_every", every.into(), "1 or more")
    }
}

impl From<u32> for HistoryOptions {
    fn from(steps: u32) -> Self {
        Self::steps(steps)
    }
}

/// The statistics of several steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Of each step, oldest first.
    pub steps: Vec<Stats>,
    /// Of each group in each step whose norms were taken, oldest first, groups in the layout's order; empty unless
    /// [`HistoryOptions::per_group`] asks for them.
    pub groups: Vec<GroupStats>,
}

/// What a step did to one group.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GroupStats {
    /// Name of the group; none for the elements without one.
    pub group: Option<String>,
    /// Steps applied so far.
    pub step: u64,
    /// Euclidean norm of the live gradients, after the gradient scale and before clipping, a plain f32 sum as
    /// [`Stats::param_norm`]. Where a global norm clips, it is worked out from the clipped gradients: what is below 1e-19 then
    /// adds nothing, and it is NaN where `clip_coef` is 0 or NaN. This and all below are 0 for a frozen group.
    pub grad_norm: f32,
    /// As [`Stats::param_norm`].
    pub param_norm: f32,
    /// As [`Stats::update_norm`].
    pub update_norm: f32,
    /// As [`Stats::update_ratio`].
    pub update_ratio: f32,
    /// As [`Stats::clipped_fraction`].
    pub clipped_fraction: f32,
    /// As [`Stats::rule_fraction`].
    pub rule_fraction: Option<f32>,
}

/// A ring of records on a device.
#[derive(Debug)]
pub(crate) struct DeviceHistory {
    pub(crate) ring: wgpu::Buffer,
    staging: StagingPool,
}

impl DeviceHistory {
    /// `bytes`: of all records.
    pub(crate) fn new(device: &wgpu::Device, bytes: u64) -> Self {
        let ring = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim history"),
            size: bytes,
            usage: BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self { ring, staging: StagingPool::default() }
    }

    /// Records copies of what the last of `recorded` steps left: the control block, and if it was observed, the totals.
    pub(crate) fn keep(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        record_size: u64,
        recorded: u64,
        control: &wgpu::Buffer,
        observed: Option<(&wgpu::Buffer, std::ops::Range<u64>)>,
    ) {
        let (at, size) = (recorded * record_size % self.ring.size(), size_of::<ControlBlock>() as u64);
        encoder.copy_buffer_to_buffer(control, 0, &self.ring, at, size);
        if let Some((observed, bytes)) = observed {
            encoder.copy_buffer_to_buffer(observed, bytes.start, &self.ring, at + size, bytes.end - bytes.start);
        }
    }

    pub(crate) fn read(
        &self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        reader: Reader,
    ) -> PendingHistory {
        let ring = (&self.ring, 0..self.ring.size());
        Pending::record(device, encoder, &[ring], &self.staging, History::in_order, reader)
    }
}

impl History {
    /// The steps of a ring, oldest first. Blocks that no step has written hold zeros.
    fn in_order(ring: &[u8], reader: &Reader) -> Self {
        let records = ring.chunks_exact(reader.record_size() as usize);
        let most = records.len() as u64;
        let mut steps: Vec<(Stats, Vec<GroupStats>)> = records.map(|record| reader.read(record)).collect();
        steps.retain(|(stats, _)| stats.executed() > 0);
        steps.sort_by_key(|(stats, _)| stats.executed());
        // Where an encoder was dropped, the ring still has a step from before the last ones.
        let last = steps.last().map_or(0, |(stats, _)| stats.executed());
        steps.retain(|(stats, _)| stats.executed() + most > last);
        steps.into_iter().collect()
    }
}

impl FromIterator<(Stats, Vec<GroupStats>)> for History {
    fn from_iter<I: IntoIterator<Item = (Stats, Vec<GroupStats>)>>(steps: I) -> Self {
        let mut history = Self::default();
        for (stats, groups) in steps {
            history.steps.push(stats);
            history.groups.extend(groups);
        }
        history
    }
}

/// The statistics of the last steps on the host.
#[derive(Debug, Clone)]
pub(crate) struct HostHistory {
    most: usize,
    steps: VecDeque<(Stats, Vec<GroupStats>)>,
}

impl HostHistory {
    pub(crate) fn new(steps: u32) -> Self {
        Self { most: steps as usize, steps: VecDeque::new() }
    }

    pub(crate) fn keep(&mut self, step: (Stats, Vec<GroupStats>)) {
        if self.steps.len() == self.most {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    pub(crate) fn steps(&self) -> History {
        self.steps.iter().cloned().collect()
    }
}

/// Writes one line per row of a [`History`] (its steps or its groups) as CSV, under a line of the fields' names; what a
/// row has not is empty, and so is all without a row.
///
/// # Errors
/// Those of the writer.
#[cfg(feature = "serde")]
pub fn write_csv(rows: &[impl serde::Serialize], writer: impl std::io::Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(writer);
    for row in rows {
        csv.serialize(row).map_err(std::io::Error::other)?;
    }
    csv.flush()
}

/// Writes one JSON object per line and row of a [`History`] (its steps or its groups); what a row has not, and what is no
/// finite number, is `null`.
///
/// # Errors
/// Those of the writer.
#[cfg(feature = "serde")]
pub fn write_json_lines(rows: &[impl serde::Serialize], mut writer: impl std::io::Write) -> std::io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut writer, row)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()
}
