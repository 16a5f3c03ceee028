use wgpu::{Buffer, BufferUsages, CommandEncoder};

use super::Optimizer;
use crate::gpu::{BufferRange, HostState, Submission, copy_ranges, state_ranges};
use crate::schedule::{LrCurve, RangeTest};
use crate::{BufferSlices, Error};

const SNAPSHOT_COPIES: &str = ", because `snapshot` copies the parameters and `restore` copies them back";

/// Parameters and optimizer at the time of [`Optimizer::snapshot`], in buffers of their own on the device.
#[derive(Debug)]
pub struct Snapshot {
    host: HostState,
    submission: Submission,
    params: Vec<BufferRange>,
    buffers: Vec<Buffer>,
}

impl Optimizer {
    /// Records copies of `params` and of everything that steps change: states, counters, statistics, the position in the
    /// schedule, `set_lr`, `set_grad_scale`, and the training parameters of [`Optimizer::eval`]. They take as many bytes as
    /// parameters and states. Submit the encoder before that of [`Optimizer::restore`], or drop it before
    /// that call, which then refuses the snapshot.
    ///
    /// # Errors
    /// [`Error::MissingUsage`] unless `params` has `STORAGE`, `COPY_SRC` and `COPY_DST`, and those of [`Optimizer::step`]
    /// that concern `params`; nothing was recorded then.
    pub fn snapshot<'a>(
        &self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
    ) -> Result<Snapshot, Error> {
        let ranges = self.copyable(params.into(), SNAPSHOT_COPIES)?;
        let params = state_ranges(&self.device, "snapshot of params", 0.0, self.plan.layout.len() as u64);
        copy_ranges(encoder, &ranges, &params);
        let copy = |buffer: &Buffer| {
            let copy = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("wgpu-optim snapshot"),
                size: buffer.size(),
                usage: BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, buffer.size());
            copy
        };
        let host = self.host_state();
        let buffers = self.persistent_buffers(*host.plan.evaluating).map(copy).collect();
        Ok(Snapshot { host, submission: Submission::of(encoder), params, buffers })
    }

    /// Records copies back from a snapshot, which stays usable. The next step has the bits of the one that would have
    /// followed [`Optimizer::snapshot`]. As a step, it takes effect in the order of submission.
    ///
    /// # Errors
    /// [`Error::ForeignSnapshot`] for a snapshot of another optimizer, [`Error::SnapshotDropped`] for one whose encoder was
    /// dropped, and those of [`Optimizer::snapshot`]; nothing was
    /// recorded and nothing has changed then.
    pub fn restore<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
        snapshot: &Snapshot,
    ) -> Result<(), Error> {
        self.plan.check_own(&snapshot.host.plan)?;
        if snapshot.submission.was_dropped() {
            return Err(Error::SnapshotDropped);
        }
        self.undo_dropped_calls()?;
        let ranges = self.copyable(params.into(), SNAPSHOT_COPIES)?;
        copy_ranges(encoder, &snapshot.params, &ranges);
        for (buffer, copy) in self.persistent_buffers(*snapshot.host.plan.evaluating).zip(&snapshot.buffers) {
            encoder.copy_buffer_to_buffer(copy, 0, buffer, 0, buffer.size());
        }
        let before = self.host_state();
        self.plan.restore(&snapshot.host.plan)?;
        self.grad_scale.clone_from(&snapshot.host.grad_scale);
        self.remember_call(encoder, before);
        Ok(())
    }

    /// A [`RangeTest`] whose training leaves no trace. `train_step` trains one step with this optimizer, whose learning rate
    /// is set; it submits the step, waits for the loss of the batch before the step, and returns it. Parameters and
    /// optimizer are restored even if the test or `train_step` fails.
    ///
    /// Unlike all other calls it submits: the copies of [`Optimizer::snapshot`] and [`Optimizer::restore`].
    ///
    /// # Errors
    /// Those of `train_step`, of [`RangeTest::sweep`] and of [`Optimizer::snapshot`].
    pub fn range_test<'a, E: From<Error>>(
        &mut self,
        params: impl Into<BufferSlices<'a>>,
        test: &RangeTest,
        mut train_step: impl FnMut(&mut Self) -> Result<f64, E>,
    ) -> Result<LrCurve, E> {
        let params = params.into();
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let snapshot = self.snapshot(&mut encoder, params)?;
        self.queue.submit([encoder.finish()]);
        let curve = test.sweep(|lr| {
            self.set_lr(lr)?;
            train_step(self)
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.restore(&mut encoder, params, &snapshot)?;
        self.queue.submit([encoder.finish()]);
        curve
    }

    /// The buffers that a snapshot copies in addition to the parameters.
    fn persistent_buffers(&self, evaluating: bool) -> impl Iterator<Item = &Buffer> {
        let training_params = if evaluating { &self.training_params[..] } else { &[] };
        let history = self.history.iter().map(|history| &history.ring);
        self.resources.persistent_buffers().chain(history).chain(training_params.iter().map(|range| &range.buffer))
    }
}
