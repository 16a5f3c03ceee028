//! Going back to an earlier moment of training.

use wgpu::{BindGroup, Buffer, BufferUsages, CommandEncoder};

use super::passes::copy;
use super::{Optimizer, state_pieces};
use crate::gpu::Piece;
use crate::plan::PlanState;
use crate::schedule::{LrCurve, RangeTest};
use crate::{Error, FlatBuffer};

const SNAPSHOT_COPIES: &str = ", because `snapshot` copies the parameters and `restore` copies them back";

/// Parameters and optimizer as [`Optimizer::snapshot`] found them, in buffers of their own on the device.
#[derive(Debug)]
pub struct Snapshot {
    plan: PlanState,
    finish: BindGroup,
    params: Vec<Piece>,
    kept: Vec<Buffer>,
}

impl Optimizer {
    /// Records copies of `params` and of everything the optimizer changes from step to step: states, counters, statistics,
    /// the place in the schedule, `set_lr`, `set_grad_scale`, and what [`Optimizer::eval`] keeps. They take as many bytes as
    /// the parameters and the states. Submit what they were recorded into before [`Optimizer::restore`] runs.
    ///
    /// # Errors
    /// [`Error::MissingUsage`] unless `params` has `STORAGE`, `COPY_SRC` and `COPY_DST`, and those of [`Optimizer::step`] that
    /// concern `params`; nothing was recorded then.
    pub fn snapshot<'a>(
        &self,
        encoder: &mut CommandEncoder,
        params: impl Into<FlatBuffer<'a>>,
    ) -> Result<Snapshot, Error> {
        let pieces = self.copyable(params.into(), SNAPSHOT_COPIES)?;
        let params = state_pieces(&self.device, "snapshot of params", 0.0, self.plan.len as u64);
        copy(encoder, &pieces, &params);
        let keep = |buffer: &Buffer| {
            let kept = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("wgpu-optim snapshot"),
                size: buffer.size(),
                usage: BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            encoder.copy_buffer_to_buffer(buffer, 0, &kept, 0, buffer.size());
            kept
        };
        let kept = self.kept(self.plan.evaluating).map(keep).collect();
        Ok(Snapshot { plan: self.plan.state(), finish: self.finish.clone(), params, kept })
    }

    /// Records copies back from a snapshot, which can be used again: bit for bit, the next step is the one that would have
    /// followed [`Optimizer::snapshot`]. Like a step, it takes effect in the order of submission.
    ///
    /// # Errors
    /// [`Error::ForeignSnapshot`] for a snapshot of another optimizer, and those of [`Optimizer::snapshot`]; nothing was
    /// recorded and nothing has changed then.
    pub fn restore<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<FlatBuffer<'a>>,
        snapshot: &Snapshot,
    ) -> Result<(), Error> {
        self.plan.check_own(&snapshot.plan)?;
        let pieces = self.copyable(params.into(), SNAPSHOT_COPIES)?;
        copy(encoder, &snapshot.params, &pieces);
        for (buffer, kept) in self.kept(snapshot.plan.evaluating).zip(&snapshot.kept) {
            encoder.copy_buffer_to_buffer(kept, 0, buffer, 0, buffer.size());
        }
        self.plan.set_state(&snapshot.plan);
        self.finish.clone_from(&snapshot.finish);
        Ok(())
    }

    /// A [`RangeTest`] whose training leaves no trace. `train_step` trains one step with this optimizer, whose learning rate
    /// is set (see [`Optimizer::set_lr`]), submits it, waits for the loss of the batch before the step, and returns it.
    /// Parameters and optimizer are restored also where the test or `train_step` fails.
    ///
    /// Unlike all other calls it submits, to `queue`: the copies of [`Optimizer::snapshot`] and [`Optimizer::restore`].
    ///
    /// # Errors
    /// Those of `train_step`, of [`RangeTest::sweep`] and of [`Optimizer::snapshot`].
    pub fn range_test<'a, E: From<Error>>(
        &mut self,
        queue: &wgpu::Queue,
        params: impl Into<FlatBuffer<'a>>,
        test: &RangeTest,
        mut train_step: impl FnMut(&mut Self) -> Result<f64, E>,
    ) -> Result<LrCurve, E> {
        let params = params.into();
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let snapshot = self.snapshot(&mut encoder, params)?;
        queue.submit([encoder.finish()]);
        let curve = test.sweep(|lr| {
            self.set_lr(lr)?;
            train_step(self)
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.restore(&mut encoder, params, &snapshot)?;
        queue.submit([encoder.finish()]);
        curve
    }

    /// What a snapshot copies beside the parameters.
    fn kept(&self, evaluating: bool) -> impl Iterator<Item = &Buffer> {
        let training_params = if evaluating { &self.training_params[..] } else { &[] };
        let history = self.history.iter().map(|history| &history.ring);
        self.shared.kept().chain(history).chain(training_params.iter().map(|piece| &piece.buffer))
    }
}
