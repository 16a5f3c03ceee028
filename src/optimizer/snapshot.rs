use wgpu::{Buffer, BufferUsages, CommandEncoder};

use super::Optimizer;
#[cfg(feature = "safetensors")]
use super::checkpoint_source::SavingContext;
use crate::gpu::{
    BufferRange, CopyIf, HostState, PersistentBuffers, RecordedCalls, Submission, copied_ranges, copy_ranges, joined,
    state_ranges, stream_ranges,
};
use crate::schedule::{LrCurve, RangeTest};
use crate::{BufferSlices, Error};

const SNAPSHOT_COPIES: &str = ", because `snapshot` copies the parameters and `restore` copies them back";

/// Parameters and optimizer at the time of [`Optimizer::snapshot`], in buffers of their own on the device.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) host: HostState,
    /// The calls before it that may yet be dropped.
    pub(super) calls: RecordedCalls,
    pub(super) submission: Submission,
    /// 1 once the copies are made.
    flag: Buffer,
    pub(super) params: Vec<BufferRange>,
    pub(super) persistent: PersistentBuffers,
    pub(super) ring: Option<Buffer>,
    /// Empty unless others may have their place.
    pub(super) training_params: Vec<BufferRange>,
    pub(super) accumulated: Vec<BufferRange>,
    #[cfg(feature = "safetensors")]
    pub(super) saving: SavingContext,
}

impl Optimizer {
    /// Records copies of `params` and of everything that steps change: states, counters, statistics, the position in the
    /// schedule, `set_lr`, `set_grad_scale`, and the training parameters of [`Optimizer::eval`] and [`Optimizer::perturb`]. They take as many bytes as
    /// parameters and states. Submit the encoder before that of [`Optimizer::restore`], which changes nothing if the
    /// snapshot's encoder is dropped, before or after that call.
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
        let dtype = self.plan.settings.precision.params.dtype();
        let params = stream_ranges(&self.device, "snapshot", (dtype, 0.0), self.plan.layout.len() as u64);
        copy_ranges(encoder, &ranges, &params);
        let states = self.resources.persistent.states.iter().enumerate().map(|(number, state)| {
            let copy = state_ranges(&self.device, &self.plan, number, "snapshot", 0.0);
            copy_ranges(encoder, &joined(state), &copy);
            copy
        });
        let states = states.collect();
        let mut copied = |buffer: &Buffer, size: u64| {
            let copy = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("wgpu-optim snapshot"),
                size,
                usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, size);
            copy
        };
        let flag = copied(&self.resources.one, 4);
        let mut copy = |buffer: &Buffer| copied(buffer, buffer.size());
        let training_params = if self.may_be_replaced() { &self.training_params[..] } else { &[] };
        Ok(Snapshot {
            persistent: self.resources.persistent.copied(states, &mut copy),
            ring: self.history.as_ref().map(|history| copy(&history.ring)),
            training_params: copied_ranges(training_params, &mut copy),
            accumulated: copied_ranges(&self.accumulated, &mut copy),
            host: self.host_state(),
            calls: self.calls.clone(),
            submission: Submission::of(encoder),
            flag,
            params,
            #[cfg(feature = "safetensors")]
            saving: self.saving_context(),
        })
    }

    /// Records copies back from a snapshot, which stays usable. The next step has the bits of the one that would have
    /// followed [`Optimizer::snapshot`]. As a step, it takes effect in the order of submission. Padding of `params` stays
    /// unchanged.
    ///
    /// The settings change with the call, and change back if its encoder or that of the snapshot is dropped.
    ///
    /// # Errors
    /// [`Error::ForeignSnapshot`] for a snapshot of another optimizer, [`Error::SnapshotDropped`] for one whose encoder was
    /// dropped before, and those of [`Optimizer::snapshot`]; nothing was recorded and nothing has changed then.
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
        let words = |buffer: &Buffer| vec![BufferRange::words(buffer)];
        let ring = self.history.iter().map(|history| &history.ring);
        let own = &self.resources.persistent;
        let buffers = own.tables().chain(ring);
        let copies = snapshot.persistent.tables().chain(&snapshot.ring);
        let mut lists: Vec<_> = copies.zip(buffers).map(|(copy, buffer)| [words(copy), words(buffer)]).collect();
        lists.extend(snapshot.persistent.states.iter().zip(&own.states).enumerate().map(|(i, (copy, state))| {
            // Between the slices of a program lies what is not the state's.
            let given = self.resources.given.ranges(i).map(|state| self.space.without_padding(&joined(state)));
            [copy.clone(), given.unwrap_or_else(|| state.clone())]
        }));
        lists.push([snapshot.training_params.clone(), self.training_params.clone()]);
        lists.push([snapshot.accumulated.clone(), self.accumulated.clone()]);
        lists.push([snapshot.params.clone(), self.space.without_padding(&ranges)]);
        let kernel = self.pipelines.copy_if(&self.plan)?;
        CopyIf::new(&self.device, kernel, &snapshot.flag, &lists)?.record(encoder);
        let (before, mut host) = (self.host_state(), snapshot.host.clone());
        snapshot.calls.undo_dropped(&mut host);
        self.plan.restore(&host.plan)?;
        self.grad_scale = host.grad_scale;
        self.remember_call(encoder, Some(&snapshot.submission), before);
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
        let snapshot = self.submit_snapshot(params)?;
        let curve = test.sweep(|lr| {
            self.set_lr(lr)?;
            train_step(self)
        });
        self.submit_restore(params, &snapshot)?;
        curve
    }

    /// As [`Optimizer::range_test`], with a `train_step` that awaits the loss: browsers have no other way to read it. A
    /// future that is dropped restores nothing.
    ///
    /// # Errors
    /// Those of [`Optimizer::range_test`].
    pub async fn range_test_async<'a, E: From<Error>>(
        &mut self,
        params: impl Into<BufferSlices<'a>>,
        test: &RangeTest,
        mut train_step: impl AsyncFnMut(&mut Self) -> Result<f64, E>,
    ) -> Result<LrCurve, E> {
        let params = params.into();
        let snapshot = self.submit_snapshot(params)?;
        let curve = test.sweep_async(async |lr| {
            self.set_lr(lr)?;
            train_step(self).await
        });
        let curve = curve.await;
        self.submit_restore(params, &snapshot)?;
        curve
    }

    fn submit_snapshot(&self, params: BufferSlices<'_>) -> Result<Snapshot, Error> {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let snapshot = self.snapshot(&mut encoder, params)?;
        self.queue.submit([encoder.finish()]);
        Ok(snapshot)
    }

    fn submit_restore(&mut self, params: BufferSlices<'_>, snapshot: &Snapshot) -> Result<(), Error> {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.restore(&mut encoder, params, snapshot)?;
        self.queue.submit([encoder.finish()]);
        Ok(())
    }
}
