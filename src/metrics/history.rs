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

use wgpu::BufferUsages;

pub use super::history_options::HistoryOptions;
use super::readback::{Readback, StagingPool};
use super::sampler::RecordDecoder;
pub use super::stats::GroupStats;
use super::stats::Stats;
#[cfg(feature = "tensorboard")]
pub use super::tensorboard::write_events;
use crate::kernels::control::ControlBlock;

#[cfg(feature = "serde")]
pub use super::csv_json::{write_csv, write_json_lines};

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

/// A readback of the statistics of recent steps.
pub type ReadbackHistory = Readback<History>;

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
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self { ring, staging: StagingPool::default() }
    }

    /// Forgets all steps: a new ring is zeros.
    pub(crate) fn clear(&mut self, device: &wgpu::Device) {
        *self = Self::new(device, self.ring.size());
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
        let (at, size) = (place_of(recorded, record_size, self.ring.size()), size_of::<ControlBlock>() as u64);
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

/// First byte of the `recorded`th record in a ring.
pub(crate) fn place_of(recorded: u64, record_size: u64, ring_size: u64) -> u64 {
    recorded % (ring_size / record_size) * record_size
}

/// A record of a ring, and its statistics.
type DecodedRecord<'a> = (&'a [u8], StepStats);

/// The statistics of a step and of its groups.
type StepStats = (Stats, Vec<GroupStats>);

/// The records of a ring, each with its statistics, oldest step first. Records that no step has written are zeros.
pub(crate) fn records_in_order<'a>(ring: &'a [u8], decoder: &RecordDecoder) -> Vec<DecodedRecord<'a>> {
    let records = ring.chunks_exact(decoder.record_size() as usize);
    let capacity = records.len() as u64;
    let mut steps: Vec<_> = records.map(|record| (record, decoder.decode_record(record))).collect();
    steps.retain(|(_, (stats, _))| stats.executed() > 0);
    steps.sort_by_key(|(_, (stats, _))| stats.executed());
    // If an encoder was dropped, the ring contains a record of an earlier lap: removes it.
    let last = steps.last().map_or(0, |(_, (stats, _))| stats.executed());
    steps.retain(|(_, (stats, _))| stats.executed() + capacity > last);
    steps
}

impl History {
    /// Decodes the records of a ring, oldest step first.
    fn in_order(ring: &[u8], decoder: &RecordDecoder) -> Self {
        records_in_order(ring, decoder).into_iter().map(|(_, step)| step).collect()
    }
}

impl FromIterator<StepStats> for History {
    fn from_iter<I: IntoIterator<Item = StepStats>>(steps: I) -> Self {
        let mut history = Self::default();
        for (stats, groups) in steps {
            history.steps.push(stats);
            history.groups.extend(groups);
        }
        history
    }
}

/// A ring buffer of step records on the host.
#[derive(Debug, Clone)]
pub(crate) struct HostHistory {
    pub(crate) ring: Vec<u8>,
}

impl HostHistory {
    /// `bytes`: size of all records.
    pub(crate) fn new(bytes: u64) -> Self {
        Self { ring: vec![0; bytes as usize] }
    }

    /// Stores the step's control block and metric sums as its record, the `recorded`th.
    pub(crate) fn keep(&mut self, record_size: u64, recorded: u64, control: &ControlBlock, metric_sums: &[u8]) {
        let at = place_of(recorded, record_size, self.ring.len() as u64) as usize;
        let (block, sums) = self.ring[at..at + record_size as usize].split_at_mut(size_of::<ControlBlock>());
        block.copy_from_slice(bytemuck::bytes_of(control));
        sums.copy_from_slice(metric_sums);
    }

    pub(crate) fn clear(&mut self) {
        self.ring.fill(0);
    }

    pub(crate) fn read(&self, decoder: &RecordDecoder) -> History {
        History::in_order(&self.ring, decoder)
    }
}
