//! Loss and hits as the device counts them, and their way to the host without a stall.

use std::sync::mpsc::{Receiver, TryRecvError, channel};

use bytemuck::{Pod, Zeroable};
use wgpu_optim::ReadbackStats;
use wgpu_optim::wgpu::{self, BufferUsages};

use crate::Result;
use crate::engine::{Report, Score};

/// `Tally` of `cross_entropy.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Counts {
    loss: f32,
    correct: u32,
    examples: u32,
}

pub(super) struct Tally {
    /// The counts, on the device.
    pub(super) buffer: wgpu::Buffer,
    /// Buffers that no copy is under way to.
    free: Vec<wgpu::Buffer>,
}

impl Tally {
    /// `copies`: how many may be under way at a time.
    pub(super) fn new(device: &wgpu::Device, copies: usize) -> Self {
        let create = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("tally"),
                size: size_of::<Counts>() as u64,
                usage,
                mapped_at_creation: false,
            })
        };
        Self {
            buffer: create(BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST),
            free: (0..copies).map(|_| create(BufferUsages::COPY_DST | BufferUsages::MAP_READ)).collect(),
        }
    }

    /// Records a copy of the counts and starts them anew; `None` while all copies are under way.
    pub(super) fn fetch(&mut self, encoder: &mut wgpu::CommandEncoder) -> Option<PendingScore> {
        let copy = self.free.pop()?;
        encoder.copy_buffer_to_buffer(&self.buffer, 0, &copy, 0, self.buffer.size());
        encoder.clear_buffer(&self.buffer, 0, None);
        let (sender, mapped) = channel();
        encoder.map_buffer_on_submit(&copy, wgpu::MapMode::Read, .., move |result| {
            // Nobody listens any more when the run has ended early.
            let _ = sender.send(result);
        });
        Some(PendingScore { copy, mapped })
    }

    pub(super) fn release(&mut self, pending: PendingScore) {
        self.free.push(pending.copy);
    }
}

/// Counts on their way to the host.
pub(super) struct PendingScore {
    copy: wgpu::Buffer,
    mapped: Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
}

impl PendingScore {
    /// The counts once they have arrived; never blocks. Give the request back to its tally then.
    pub(super) fn try_take(&self) -> Result<Option<Score>> {
        match self.mapped.try_recv() {
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => return Err("the device dropped a request for statistics".into()),
            Ok(mapped) => mapped?,
        }
        let counts: Counts = bytemuck::pod_read_unaligned(&self.copy.get_mapped_range(..)?);
        self.copy.unmap();
        Ok(Some(Score {
            loss_sum: counts.loss.into(),
            correct: counts.correct.into(),
            examples: counts.examples.into(),
        }))
    }
}

/// A report on its way: the counts and the optimizer's statistics after one step.
pub(super) struct PendingReport {
    pub(super) score: PendingScore,
    pub(super) arrived: Option<Score>,
    pub(super) stats: ReadbackStats,
    /// The submission that carries both.
    pub(super) submission: wgpu::SubmissionIndex,
}

impl PendingReport {
    pub(super) fn try_take(&mut self) -> Result<Option<Report>> {
        if self.arrived.is_none() {
            self.arrived = self.score.try_take()?;
        }
        let Some(score) = self.arrived else { return Ok(None) };
        Ok(self.stats.try_take().transpose()?.map(|stats| Report { score, stats }))
    }
}
