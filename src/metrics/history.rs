//! The statistics of recent steps. An optimizer on a device stores them there until they are read. Writers: CSV, JSON
//! lines, TensorBoard event files.
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

use super::readback::{Readback, ReadbackHistory, StagingPool};
use super::sampler::RecordDecoder;
use super::stats::Stats;
#[cfg(feature = "tensorboard")]
pub use super::tensorboard::write_events;
use crate::Error;
use crate::error::check;
use crate::kernels::control::ControlBlock;

#[cfg(feature = "serde")]
pub use super::csv_json::{write_csv, write_json_lines};

/// Which statistics of recent steps an optimizer stores.
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
    /// Stores the statistics of the last `steps` steps, from 1 to 1,000,000. On a device, each step takes 112 bytes and
    /// one copy.
    #[must_use]
    pub fn steps(steps: u32) -> Self {
        Self { steps, norms_every: None, per_group: false }
    }

    /// Samples the metrics in the first of every `steps` steps: [`Stats::param_norm`] and the fields after it. `steps`
    /// is 1 or more. Default: never.
    ///
    /// # Performance considerations
    /// A sampled step computes the global norm, and reads parameters, gradients and states a second time: one more
    /// dispatch per chunk, and one that sums the results. With AdamW it moves 48 bytes per parameter instead of 28 (32
    /// with clipping). Sampling one step in 50 adds 1.4 % in total. CPUs are compute-bound: there a sampled step took
    /// 1.9 to 3.9 times as long.
    ///
    /// On a device, each stored step takes 48 bytes more. Slices may be cut only between tensors and at multiples of
    /// 8,192 elements. Rules with sums over segments, and clipping by norms of groups or units, bind one more storage
    /// buffer.
    #[must_use]
    pub fn with_norms_every(mut self, steps: u32) -> Self {
        self.norms_every = Some(steps);
        self
    }

    /// Also samples the metrics of each group of the layout: [`History::groups`]. Requires
    /// [`HistoryOptions::with_norms_every`]. Default: only over all parameters. On a device, each stored step takes 32
    /// bytes more for every group after the first.
    #[must_use]
    pub fn per_group(mut self) -> Self {
        self.per_group = true;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let steps = self.steps;
        check((1..=1_000_000).contains(&steps), "history", "steps", steps.into(), "1 to 1,000,000")?;
        let Some(every) = self.norms_every else {
            return if self.per_group {
                Err(Error::Unsupported {
                    what: "a history of groups".to_owned(),
                    with: "a history without metrics".to_owned(),
                    remedy: "call `.with_norms_every(steps)` on its options",
                })
            } else {
                Ok(())
            };
        };
        check(every > 0, "history", "norms_every", every.into(), "1 or more")
    }
}

impl From<u32> for HistoryOptions {
    fn from(steps: u32) -> Self {
        Self::steps(steps)
    }
}

/// The statistics of recent steps.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct History {
    /// One entry per step, oldest first.
    pub steps: Vec<Stats>,
    /// One entry per sampled step and group: oldest step first, groups in the layout's order, then the elements without
    /// a group. Empty without [`HistoryOptions::per_group`].
    pub groups: Vec<GroupStats>,
}

/// The statistics of one group in one sampled step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GroupStats {
    /// Name of the group; `None` for the elements without a group.
    pub group: Option<String>,
    /// Steps applied so far.
    pub step: u64,
    /// Euclidean norm of the active gradients, after the gradient scale and before clipping, from an f32 sum of squares
    /// as for [`Stats::param_norm`]. With clipping by global norm, it is the norm of the clipped gradients divided by
    /// `clip_coef`: NaN if `clip_coef` is 0 or NaN. This field and all below are 0 for a frozen group.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub grad_norm: f32,
    /// [`Stats::param_norm`] of the group.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub param_norm: f32,
    /// [`Stats::update_norm`] of the group.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub update_norm: f32,
    /// [`Stats::update_ratio`] of the group.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub update_ratio: f32,
    /// [`Stats::clipped_fraction`] of the group.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub clipped_fraction: f32,
    /// [`Stats::rule_metric`] of the group.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub rule_metric: Option<f32>,
}

/// A ring buffer of step records on the device.
#[derive(Debug)]
pub(crate) struct DeviceHistory {
    pub(crate) ring: wgpu::Buffer,
    staging: StagingPool,
}

impl DeviceHistory {
    /// `bytes`: size of all records.
    pub(crate) fn new(device: &wgpu::Device, bytes: u64) -> Self {
        let ring = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim history"),
            size: bytes,
            usage: BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self { ring, staging: StagingPool::default() }
    }

    /// Encodes copies of the step's control block and metric sums to its record, the `recorded`th.
    pub(crate) fn keep(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        record_size: u64,
        recorded: u64,
        control: &wgpu::Buffer,
        metric_sums: Option<(&wgpu::Buffer, std::ops::Range<u64>)>,
    ) {
        let (at, size) = (recorded * record_size % self.ring.size(), size_of::<ControlBlock>() as u64);
        encoder.copy_buffer_to_buffer(control, 0, &self.ring, at, size);
        if let Some((metric_sums, bytes)) = metric_sums {
            encoder.copy_buffer_to_buffer(metric_sums, bytes.start, &self.ring, at + size, bytes.end - bytes.start);
        }
    }

    pub(crate) fn read(
        &self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        decoder: RecordDecoder,
    ) -> ReadbackHistory {
        let ring = (&self.ring, 0..self.ring.size());
        let decode = move |ring: &[u8]| History::in_order(ring, &decoder);
        Readback::record(device, encoder, &[ring], &self.staging, decode)
    }
}

impl History {
    /// Decodes the records of a ring, oldest step first. Records that no step has written are zeros.
    fn in_order(ring: &[u8], decoder: &RecordDecoder) -> Self {
        let records = ring.chunks_exact(decoder.record_size() as usize);
        let capacity = records.len() as u64;
        let mut steps: Vec<(Stats, Vec<GroupStats>)> = records.map(|record| decoder.decode(record)).collect();
        steps.retain(|(stats, _)| stats.executed() > 0);
        steps.sort_by_key(|(stats, _)| stats.executed());
        // If an encoder was dropped, the ring contains a record of an earlier lap: removes it.
        let last = steps.last().map_or(0, |(stats, _)| stats.executed());
        steps.retain(|(stats, _)| stats.executed() + capacity > last);
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

/// The statistics of recent steps on the host.
#[derive(Debug, Clone)]
pub(crate) struct HostHistory {
    capacity: usize,
    steps: VecDeque<(Stats, Vec<GroupStats>)>,
}

impl HostHistory {
    pub(crate) fn new(steps: u32) -> Self {
        Self { capacity: steps as usize, steps: VecDeque::new() }
    }

    pub(crate) fn keep(&mut self, step: (Stats, Vec<GroupStats>)) {
        if self.steps.len() == self.capacity {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    pub(crate) fn steps(&self) -> History {
        self.steps.iter().cloned().collect()
    }
}
