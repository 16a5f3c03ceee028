//! ZeRO-1: each rank keeps the states of a share of the elements.

#[cfg(all(feature = "safetensors", not(target_arch = "wasm32")))]
mod checkpoint;
mod cpu;
#[cfg(not(target_arch = "wasm32"))]
mod gpu;

use std::ops::Range;

use super::Communicator;
use super::exchange::{Group, SumOrder};
use super::shares::Shares;
use crate::{Error, Layout, OptimizerBuilder};

/// An optimizer whose states are divided among the ranks of a [`Communicator`]: stage 1 of
/// [ZeRO](https://arxiv.org/abs/1910.02054). Parameters and gradients are whole on each rank, states take 1/N of their
/// memory.
///
/// A step averages the gradients over all ranks, updates this rank's share, and gathers the parameters. The norm, the
/// decision to skip, and a rule's sums over tensors are those of all elements: their partial sums are added in the order of
/// one device. Given equal means, **parameters, states and statistics have the same bits for any number of ranks**.
/// [`Sharded::reproducible`] extends this to the average.
///
/// All ranks make the same calls in the same order, with equal settings, equal layouts and equal parameters. Every call that
/// exchanges waits for the others. Shares end at multiples of 8,192 elements.
///
/// Rules with factored states and optimizers with rows are refused.
///
/// ```
/// use std::thread;
/// use wgpu_optim::distributed::{DistributedError, Sharded, ThreadCommunicator};
/// use wgpu_optim::{AdamW, Clip, Layout, Optimizer};
///
/// let layout = Layout::flat(100_000)?;
/// let train = |communicator| {
///     let builder = Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0));
///     let mut optimizer = Sharded::build_cpu(builder, &layout, communicator)?;
///     let mut params = vec![1.0; layout.len()];
///     let mut grads = vec![0.1; layout.len()]; // of this rank's part of the batch
///     optimizer.step(&mut params, &mut grads)?;
///     Ok::<_, DistributedError>(params)
/// };
/// thread::scope(|scope| {
///     let threads = ThreadCommunicator::group(2).into_iter().map(|communicator| scope.spawn(|| train(communicator)));
///     let threads: Vec<_> = threads.collect();
///     let of_ranks: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
///     assert_eq!(of_ranks[0].as_ref().ok(), of_ranks[1].as_ref().ok());
/// });
/// # Ok::<(), DistributedError>(())
/// ```
#[derive(Debug)]
pub struct Sharded<O, C> {
    optimizer: O,
    communicator: C,
    shares: Shares,
    order: SumOrder,
}

impl<O, C: Communicator> Sharded<O, C> {
    /// `build` makes the optimizer of this rank's share.
    fn new(
        builder: OptimizerBuilder,
        layout: &Layout,
        communicator: C,
        build: impl FnOnce(OptimizerBuilder) -> Result<O, Error>,
    ) -> Result<Self, Error> {
        let shares = Shares::new(layout.len(), communicator.size());
        let optimizer = build(builder.share(shares.of(communicator.rank())))?;
        Ok(Self { optimizer, communicator, shares, order: SumOrder::Any })
    }

    /// Adds the gradients of the ranks in their order, as one machine that accumulates them with weight 1/N each. With f32
    /// gradients a whole training has the bits of that machine; means of 16-bit gradients are rounded to their format. Sends
    /// gradients in their format, not widened.
    #[must_use]
    pub fn reproducible(self) -> Self {
        Self { order: SumOrder::Ranks, ..self }
    }

    /// This rank's optimizer, for its statistics, history and states. The states are those of the share.
    pub fn optimizer(&self) -> &O {
        &self.optimizer
    }

    /// The group of ranks.
    pub fn communicator(&mut self) -> &mut C {
        &mut self.communicator
    }

    /// The elements whose states this rank keeps.
    pub fn share(&self) -> Range<usize> {
        self.shares.of(self.communicator.rank())
    }

    fn parts(&mut self) -> (&mut O, Group<'_, C>, SumOrder) {
        let group = Group { communicator: &mut self.communicator, shares: &self.shares };
        (&mut self.optimizer, group, self.order)
    }
}
