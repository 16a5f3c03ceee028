//! The statistics of the last steps: kept where the optimizer is, read as a whole, written as CSV or JSON lines.

use std::collections::VecDeque;

use wgpu::BufferUsages;

use crate::control::ControlBlock;
use crate::stats::{Pending, StagingPool, Stats};

/// The statistics of several steps, oldest first, on their way from the device.
pub type PendingHistory = Pending<Vec<Stats>>;

/// Steps that a history may have: 112 MB of them.
pub(crate) const MAX_STEPS: u32 = 1_000_000;

/// A ring of control blocks on a device.
#[derive(Debug)]
pub(crate) struct DeviceHistory {
    pub(crate) ring: wgpu::Buffer,
    staging: StagingPool,
}

impl DeviceHistory {
    pub(crate) fn bytes(steps: u32) -> u64 {
        u64::from(steps) * size_of::<ControlBlock>() as u64
    }

    pub(crate) fn new(device: &wgpu::Device, steps: u32) -> Self {
        let ring = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim history"),
            size: Self::bytes(steps),
            usage: BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self { ring, staging: StagingPool::default() }
    }

    /// Records a copy of what the last of `recorded` steps left in the control block.
    pub(crate) fn keep(&self, encoder: &mut wgpu::CommandEncoder, control: &wgpu::Buffer, recorded: u64) {
        let size = size_of::<ControlBlock>() as u64;
        encoder.copy_buffer_to_buffer(control, 0, &self.ring, recorded * size % self.ring.size(), size);
    }

    pub(crate) fn read(
        &self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        max_consecutive_skips: u32,
    ) -> PendingHistory {
        Pending::record(device, encoder, &self.ring, &self.staging, in_order, max_consecutive_skips)
    }
}

/// The steps of a ring, oldest first. Blocks that no step has written hold zeros.
fn in_order(blocks: &[ControlBlock], max_consecutive_skips: u32) -> Vec<Stats> {
    let mut steps: Vec<Stats> = blocks.iter().map(|block| Stats::new(block, max_consecutive_skips)).collect();
    steps.retain(|stats| stats.executed() > 0);
    steps.sort_by_key(Stats::executed);
    // Where an encoder was dropped, the ring still has a step from before the last ones.
    let last = steps.last().map_or(0, Stats::executed);
    steps.retain(|stats| stats.executed() + blocks.len() as u64 > last);
    steps
}

/// The statistics of the last steps on the host.
#[derive(Debug, Clone)]
pub(crate) struct HostHistory {
    most: usize,
    steps: VecDeque<Stats>,
}

impl HostHistory {
    pub(crate) fn new(steps: u32) -> Self {
        Self { most: steps as usize, steps: VecDeque::new() }
    }

    pub(crate) fn keep(&mut self, stats: Stats) {
        if self.steps.len() == self.most {
            self.steps.pop_front();
        }
        self.steps.push_back(stats);
    }

    pub(crate) fn steps(&self) -> Vec<Stats> {
        self.steps.iter().copied().collect()
    }
}

/// Writes one line per step as CSV, under a line of the fields' names of [`Stats`]; what a step has not is empty, and so is all without a step.
///
/// # Errors
/// Those of the writer.
#[cfg(feature = "serde")]
pub fn write_csv(steps: &[Stats], writer: impl std::io::Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(writer);
    for stats in steps {
        csv.serialize(stats).map_err(std::io::Error::other)?;
    }
    csv.flush()
}

/// Writes one JSON object per step and line, with the fields of [`Stats`]; what a step has not, and what is no finite
/// number, is `null`.
///
/// # Errors
/// Those of the writer.
#[cfg(feature = "serde")]
pub fn write_json_lines(steps: &[Stats], mut writer: impl std::io::Write) -> std::io::Result<()> {
    for stats in steps {
        serde_json::to_writer(&mut writer, stats)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()
}
