//! Sharded steps on a device.

use std::ops::Range;

use super::Sharded;
use crate::distributed::exchange::Stream;
use crate::distributed::{Communicator, DistributedError};
use crate::optimizer::DeviceStream;
use crate::storage::Dtype;
use crate::{BufferSlices, Error, GradScale, Layout, Optimizer, OptimizerBuilder, SharedPipelines, Stats};

impl Stream for DeviceStream {
    fn dtype(&self) -> Dtype {
        self.dtype()
    }

    fn begin_read(&mut self, ranges: &[Range<usize>]) -> Result<(), DistributedError> {
        self.begin_read(ranges);
        Ok(())
    }

    fn end_read(&mut self, bytes: &mut Vec<u8>) -> Result<(), DistributedError> {
        Ok(self.end_read(bytes)?)
    }

    fn write(&mut self, range: Range<usize>, bytes: &[u8]) -> Result<(), DistributedError> {
        self.write(&range, bytes);
        Ok(())
    }
}

/// Numbers move between device and host in pieces: one is read while the one before it is exchanged.
impl<C: Communicator> Sharded<Optimizer, C> {
    /// Builds the optimizer of this rank on a device.
    ///
    /// # Errors
    /// Those of [`OptimizerBuilder::build`]; [`Error::Unsupported`] for rows, for rules with factored states, and for states in
    /// buffers of the program.
    pub fn build(
        builder: OptimizerBuilder,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        layout: &Layout,
        communicator: C,
    ) -> Result<Self, Error> {
        Self::build_shared(builder, &SharedPipelines::new(device), queue, layout, communicator)
    }

    /// As [`Sharded::build`], on the device of `pipelines`: see [`OptimizerBuilder::build_shared`].
    ///
    /// # Errors
    /// Those of [`Sharded::build`].
    pub fn build_shared(
        builder: OptimizerBuilder,
        pipelines: &SharedPipelines,
        queue: &wgpu::Queue,
        layout: &Layout,
        communicator: C,
    ) -> Result<Self, Error> {
        Self::new(builder, layout, communicator, |builder| builder.build_shared(pipelines, queue, layout))
    }

    /// One step with the mean of all ranks' gradients: updates `params` on each rank. Submits, and waits for the device: call
    /// it after the submission that computes the gradients. Replaces the gradients of this rank's share by the mean.
    ///
    /// Both need `STORAGE`, `COPY_SRC` and `COPY_DST`. Gradients do not overlap each other.
    ///
    /// # Errors
    /// Those of [`Optimizer::step`], and [`Error::OverlappingSlices`] for gradients too; nothing has changed then, and nothing
    /// was exchanged. [`Error::Unreadable`] if the device is lost, and [`DistributedError::Communication`]: continue from the
    /// last checkpoint then.
    pub fn step<'a>(
        &mut self,
        params: impl Into<BufferSlices<'a>>,
        grads: impl Into<BufferSlices<'a>>,
    ) -> Result<Stats, DistributedError> {
        let (params, grads) = (params.into(), grads.into());
        refuse_missing(grads)?;
        let streams = (self.optimizer.param_stream(params)?, Some(self.optimizer.grad_stream(grads)?));
        self.call(streams, |optimizer, encoder| optimizer.step(encoder, params, grads), |_, _| {})?;
        Ok(self.optimizer.wait_for_stats()?)
    }

    /// Adds `weight` times the gradients of a micro-batch to this rank's accumulator: see [`Optimizer::accumulate`]. Exchanges
    /// nothing.
    ///
    /// # Errors
    /// Those of [`Optimizer::accumulate`]; nothing was recorded then.
    pub fn accumulate<'a>(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        grads: impl Into<BufferSlices<'a>>,
        weight: f32,
    ) -> Result<(), Error> {
        self.optimizer.accumulate(encoder, grads, weight)
    }

    /// One step with the mean of all ranks' accumulated gradients, which are 0 after it. Waits, as [`Sharded::step`].
    ///
    /// # Errors
    /// [`Error::NoAccumulator`], and those of [`Sharded::step`].
    pub fn step_accumulated<'a>(&mut self, params: impl Into<BufferSlices<'a>>) -> Result<Stats, DistributedError> {
        let params = params.into();
        let grads = self.optimizer.accumulated()?;
        let streams = (self.optimizer.param_stream(params)?, Some(grads));
        let record = |optimizer: &mut Optimizer, encoder: &mut _| optimizer.record_accumulated(encoder, params);
        self.call(streams, record, Optimizer::clear_accumulated)?;
        Ok(self.optimizer.wait_for_stats()?)
    }

    /// Stores `params` and moves them along the mean of all ranks' gradients, as [`Optimizer::perturb`] does. Waits, as
    /// [`Sharded::step`].
    ///
    /// # Errors
    /// Those of [`Optimizer::perturb`] and [`Sharded::step`].
    pub fn perturb<'a>(
        &mut self,
        params: impl Into<BufferSlices<'a>>,
        grads: impl Into<BufferSlices<'a>>,
    ) -> Result<(), DistributedError> {
        let (params, grads) = (params.into(), grads.into());
        refuse_missing(grads)?;
        let streams = (self.optimizer.param_stream(params)?, Some(self.optimizer.grad_stream(grads)?));
        self.call(streams, |optimizer, encoder| optimizer.perturb(encoder, params, grads), |_, _| {})
    }

    /// Switches `params` to evaluation parameters on each rank: see [`Optimizer::eval`]. Waits, as [`Sharded::step`].
    ///
    /// # Errors
    /// Those of [`Optimizer::eval`] and [`Sharded::step`].
    pub fn eval<'a>(&mut self, params: impl Into<BufferSlices<'a>>) -> Result<(), DistributedError> {
        let params = params.into();
        let streams = (self.optimizer.param_stream(params)?, None);
        self.call(streams, |optimizer, encoder| optimizer.eval(encoder, params), |_, _| {})
    }

    /// Records a call, averages the gradients if it has any, submits it with `last` behind it, and gathers the parameters.
    /// A call that `record` refuses exchanges nothing.
    fn call(
        &mut self,
        (mut params, grads): (DeviceStream, Option<DeviceStream>),
        record: impl FnOnce(&mut Optimizer, &mut wgpu::CommandEncoder) -> Result<(), Error>,
        last: impl FnOnce(&Optimizer, &mut wgpu::CommandEncoder),
    ) -> Result<(), DistributedError> {
        let (optimizer, mut group, order) = self.parts();
        let mut encoder = optimizer.shared_encoder();
        record(optimizer, &mut encoder)?;
        if let Some(mut grads) = grads {
            group.average_grads(&mut grads, order)?;
        }
        optimizer.run_shared(encoder, &mut |plan, pass, sums| group.gather_sums(plan, pass, sums), last)?;
        group.gather_params(&mut params)
    }

    /// Records the way back to the training parameters: see [`Optimizer::train`]. Exchanges nothing.
    ///
    /// # Errors
    /// Those of [`Optimizer::train`]; nothing was recorded then.
    pub fn train<'a>(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
    ) -> Result<(), Error> {
        self.optimizer.train(encoder, params)
    }

    /// Replaces the schedule by one learning rate: see [`Optimizer::set_lr`]. All ranks must set the same.
    ///
    /// # Errors
    /// Those of [`Optimizer::set_lr`]; nothing has changed then.
    pub fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        self.optimizer.set_lr(lr)
    }

    /// Divides all gradients by a scale: see [`Optimizer::set_grad_scale`]. All ranks must set the same.
    ///
    /// # Errors
    /// Those of [`Optimizer::set_grad_scale`].
    pub fn set_grad_scale<'a>(&mut self, scale: impl Into<GradScale<'a>>) -> Result<(), Error> {
        self.optimizer.set_grad_scale(scale)
    }
}

/// Refuses missing gradients: other ranks may have them.
fn refuse_missing(grads: BufferSlices<'_>) -> Result<(), Error> {
    let BufferSlices::Optional(list) = grads else { return Ok(()) };
    if list.iter().all(Option::is_some) {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: "a missing gradient".to_owned(),
        with: "a sharded step on a device: other ranks may have it".to_owned(),
        remedy: "pass a gradient of zeros, or shard the CPU engine, which takes missing gradients",
    })
}
