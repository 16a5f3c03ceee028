//! Sharded steps of the CPU engine.

use std::collections::VecDeque;
use std::ops::Range;

use super::Sharded;
use crate::distributed::exchange::Stream;
use crate::distributed::{Communicator, DistributedError};
use crate::host::{HostSlice, HostSliceMut};
use crate::storage::Dtype;
use crate::{CpuOptimizer, Error, Layout, OptimizerBuilder, Stats};

/// A stream in host memory.
struct HostStream<'a> {
    numbers: HostSliceMut<'a>,
    reads: VecDeque<Vec<Range<usize>>>,
}

impl<'a> HostStream<'a> {
    fn new(numbers: HostSliceMut<'a>) -> Self {
        Self { numbers, reads: VecDeque::new() }
    }
}

impl Stream for HostStream<'_> {
    fn dtype(&self) -> Dtype {
        self.numbers.dtype()
    }

    fn begin_read(&mut self, ranges: &[Range<usize>]) -> Result<(), DistributedError> {
        self.reads.push_back(ranges.to_vec());
        Ok(())
    }

    fn end_read(&mut self, bytes: &mut Vec<u8>) -> Result<(), DistributedError> {
        bytes.clear();
        for range in self.reads.pop_front().unwrap_or_default() {
            bytes.extend_from_slice(self.numbers.as_slice().get(range).map_or(&[], HostSlice::bytes));
        }
        Ok(())
    }

    fn write(&mut self, range: Range<usize>, bytes: &[u8]) -> Result<(), DistributedError> {
        self.numbers.reborrow().sub_slice(range).bytes_mut().copy_from_slice(bytes);
        Ok(())
    }
}

impl<C: Communicator> Sharded<CpuOptimizer, C> {
    /// Builds the optimizer of this rank on the CPU.
    ///
    /// # Errors
    /// Those of [`OptimizerBuilder::build_cpu`]; [`Error::Unsupported`] for rows and for rules with factored states.
    pub fn build_cpu(builder: OptimizerBuilder, layout: &Layout, communicator: C) -> Result<Self, Error> {
        Self::new(builder, layout, communicator, |builder| builder.build_cpu(layout))
    }

    /// One step with the mean of all ranks' gradients: updates `params` on each rank. Replaces the gradients of this rank's
    /// share by the mean. All numbers are in the formats of [`OptimizerBuilder::precision`]; sums are f32.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::step`]; nothing has changed then, and nothing was exchanged. [`DistributedError::Communication`]:
    /// continue from the last checkpoint then.
    pub fn step<'a, 'b>(
        &mut self,
        params: impl Into<HostSliceMut<'a>>,
        grads: impl Into<HostSliceMut<'b>>,
    ) -> Result<Stats, DistributedError> {
        let (mut params, mut grads) = (params.into(), grads.into());
        let (optimizer, mut group, order) = self.parts();
        optimizer.check_step(params.as_slice(), grads.as_slice())?;
        optimizer.lr()?;
        group.average_grads(&mut HostStream::new(grads.reborrow()), order)?;
        let stats = optimizer.step_shared(params.reborrow(), grads.as_slice(), &mut |plan, pass, sums| {
            group.gather_sums(plan, pass, sums)
        })?;
        group.gather_params(&mut HostStream::new(params))?;
        Ok(stats)
    }

    /// As [`Sharded::step`], with a gradient or `None` for each tensor: see [`CpuOptimizer::step_with_missing`]. A tensor
    /// without a gradient on some ranks has one of 0 there; a tensor without one on all ranks stays as it is.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::step_with_missing`], and [`DistributedError::Communication`], as [`Sharded::step`].
    pub fn step_with_missing<'a>(
        &mut self,
        params: impl Into<HostSliceMut<'a>>,
        grads: &[Option<HostSlice<'_>>],
    ) -> Result<Stats, DistributedError> {
        let params = params.into();
        let is_missing = self.optimizer.missing(grads)?;
        self.optimizer.plan.check_step()?;
        self.optimizer.check_params(params.as_slice())?;
        self.optimizer.lr()?;
        let mut present: Vec<f32> = is_missing.iter().map(|&missing| if missing { 0.0 } else { 1.0 }).collect();
        self.communicator.all_reduce(&mut present)?;
        let mut flat = self.optimizer.flat_grads(grads);
        self.optimizer.plan.groups.set_missing(present.iter().map(|&ranks| ranks == 0.0).collect());
        let stats = self.step(params, flat.as_mut());
        self.optimizer.plan.groups.set_missing(Vec::new());
        stats
    }

    /// Adds `weight` times the gradients of a micro-batch to this rank's accumulator: see [`CpuOptimizer::accumulate`].
    /// Exchanges nothing.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::accumulate`]; nothing has changed then.
    pub fn accumulate<'a>(&mut self, grads: impl Into<HostSlice<'a>>, weight: f32) -> Result<(), Error> {
        self.optimizer.accumulate(grads, weight)
    }

    /// One step with the mean of all ranks' accumulated gradients, which are 0 after it.
    ///
    /// # Errors
    /// [`Error::NoAccumulator`], and those of [`Sharded::step`].
    pub fn step_accumulated<'a>(&mut self, params: impl Into<HostSliceMut<'a>>) -> Result<Stats, DistributedError> {
        let mut accumulated = self.optimizer.take_accumulated()?;
        let stats = self.step(params, &mut accumulated);
        self.optimizer.put_accumulated(accumulated, stats.is_ok());
        stats
    }

    /// Stores `params` and moves them along the mean of all ranks' gradients, as [`CpuOptimizer::perturb`] does.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::perturb`]; nothing has changed then, and nothing was exchanged.
    /// [`DistributedError::Communication`].
    pub fn perturb<'a, 'b>(
        &mut self,
        params: impl Into<HostSliceMut<'a>>,
        grads: impl Into<HostSliceMut<'b>>,
    ) -> Result<(), DistributedError> {
        let (mut params, mut grads) = (params.into(), grads.into());
        let (optimizer, mut group, order) = self.parts();
        optimizer.check_perturb(params.as_slice(), grads.as_slice())?;
        group.average_grads(&mut HostStream::new(grads.reborrow()), order)?;
        optimizer.perturb_shared(params.reborrow(), grads.as_slice(), &mut |plan, pass, sums| {
            group.gather_sums(plan, pass, sums)
        })?;
        group.gather_params(&mut HostStream::new(params))
    }

    /// Switches `params` to evaluation parameters on each rank: see [`CpuOptimizer::eval`].
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::eval`]; nothing has changed then. [`DistributedError::Communication`].
    pub fn eval<'a>(&mut self, params: impl Into<HostSliceMut<'a>>) -> Result<(), DistributedError> {
        let mut params = params.into();
        let (optimizer, mut group, _) = self.parts();
        optimizer.eval(params.reborrow())?;
        group.gather_params(&mut HostStream::new(params))
    }

    /// Restores the training parameters: see [`CpuOptimizer::train`]. Exchanges nothing.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::train`]; nothing has changed then.
    pub fn train<'a>(&mut self, params: impl Into<HostSliceMut<'a>>) -> Result<(), Error> {
        self.optimizer.train(params)
    }

    /// Replaces the schedule by one learning rate: see [`CpuOptimizer::set_lr`]. All ranks must set the same.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::set_lr`]; nothing has changed then.
    pub fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        self.optimizer.set_lr(lr)
    }

    /// Divides all gradients by `scale`: see [`CpuOptimizer::set_grad_scale`]. All ranks must set the same.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::set_grad_scale`].
    pub fn set_grad_scale(&mut self, scale: f32) -> Result<(), Error> {
        self.optimizer.set_grad_scale(scale)
    }

    /// Allows steps again after [`NonFinite::Stop`](crate::NonFinite::Stop).
    pub fn resume(&mut self) {
        self.optimizer.resume();
    }
}
