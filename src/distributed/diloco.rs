//! `DiLoCo`: training that exchanges parameters every few hundred steps.

mod builder;
mod fragment;
#[cfg(not(target_arch = "wasm32"))]
mod gpu;
mod group;
mod state;
mod wire;

use fragment::Fragment;
use group::Report;

use super::{Communicator, DistributedError};
use crate::error::check_len;
use crate::storage::Dtype;

pub use builder::{DiLoCoBuilder, Fragments};

/// Training on ranks that rarely talk: [DiLoCo](https://arxiv.org/abs/2311.08105) and
/// [Streaming DiLoCo](https://arxiv.org/abs/2501.18512).
///
/// Each rank trains by itself, with any optimizer. Every H steps the ranks average the differences between the parameters
/// of the last exchange and their own. The *outer* optimizer takes a step with the mean as its gradient, and each rank
/// continues from there. That sends 1/H of the bytes of a mean of gradients per step. Order, sign and mixing are those of
/// [torchft](https://github.com/pytorch/torchft).
///
/// All ranks count equal steps, and build with equal settings, equal layouts and equal parameters.
///
/// ```
/// use std::thread;
/// use wgpu_optim::distributed::{DiLoCo, DistributedError, ThreadCommunicator};
/// use wgpu_optim::{AdamW, Layout, Optimizer};
///
/// let layout = Layout::flat(1_000)?;
/// thread::scope(|scope| {
///     for mut communicator in ThreadCommunicator::group(2) {
///         let layout = &layout;
///         scope.spawn(move || {
///             let mut optimizer = Optimizer::builder(AdamW::default()).build_cpu(layout)?;
///             let mut params = vec![1.0; layout.len()];
///             let mut diloco = DiLoCo::builder(50).build(layout, &params)?;
///             for _ in 0..100 {
///                 let grads = vec![0.1; layout.len()]; // of this rank's data
///                 optimizer.step(&mut params, &grads)?;
///                 diloco.count_step()?;
///                 if diloco.is_due() {
///                     diloco.synchronize(&mut params, &mut communicator)?;
///                 }
///             }
///             Ok::<_, DistributedError>(())
///         });
///     }
/// });
/// # Ok::<(), DistributedError>(())
/// ```
///
/// # Ranks that come and go
/// The communicator may be another one at each call, of more or fewer ranks: the mean is over those that take part. After
/// an error of the exchange nothing has changed. Call [`DiLoCo::synchronize`] again with a communicator of the ranks that
/// remain. A rank that missed an exchange, or that calls [`DiLoCo::rejoin`], adds nothing to the next mean. It receives state
/// and parameters of another rank, and continues from there. States of its own optimizer are the program's to reset. [`ThreadQuorum`](super::ThreadQuorum) forms such groups of
/// threads. Under MPI a lost rank ends the run.
#[derive(Debug)]
pub struct DiLoCo {
    /// Steps from one exchange of a fragment to its next.
    every: u64,
    /// Steps from an exchange to its merge.
    delay: u64,
    local_weight: f32,
    dtype: Dtype,
    /// Elements of the layout.
    len: usize,
    /// Steps counted.
    steps: u64,
    /// Exchanges completed. Ranks with fewer than others have missed some.
    exchanges: u64,
    /// This rank waits for the state of the others.
    joins: bool,
    fragments: Vec<Fragment>,
}

impl DiLoCo {
    /// Starts with `every`: the number H of steps from one exchange to the next. With fragments, each of them is exchanged
    /// once in H steps.
    pub fn builder(every: u64) -> DiLoCoBuilder {
        DiLoCoBuilder::new(every)
    }

    /// Counts a step of this rank's optimizer.
    ///
    /// # Errors
    /// [`DistributedError::Due`] if [`DiLoCo::synchronize`] was not called where it was due; nothing was counted then.
    pub fn count_step(&mut self) -> Result<(), DistributedError> {
        if self.is_due() {
            return Err(DistributedError::Due { steps: self.steps });
        }
        self.steps += 1;
        Ok(())
    }

    /// Steps counted.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Exchanges completed, those of each fragment counted.
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// Whether [`DiLoCo::synchronize`] has work to do before the next step. Until then it needs no parameters.
    pub fn is_due(&self) -> bool {
        self.joins || self.next_exchange().is_some() || self.next_merge().is_some()
    }

    /// Makes this rank a new one: the next [`DiLoCo::synchronize`] waits for the next exchange of the others, and replaces
    /// state and parameters by theirs.
    pub fn rejoin(&mut self) {
        self.joins = true;
    }

    /// Writes the parameters of the last outer steps, which are the same on all ranks: those to evaluate and to keep.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`](crate::Error::LengthMismatch).
    pub fn global_params(&self, params: &mut [f32]) -> Result<(), DistributedError> {
        check_len("params", self.len, params.len())?;
        self.fragments.iter().for_each(|fragment| fragment.scatter(&fragment.global, params));
        Ok(())
    }

    /// Exchanges and merges the fragments that are due; otherwise does nothing. All ranks call it after equal steps.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`](crate::Error::LengthMismatch), and the errors of the outer optimizer's steps.
    /// [`DistributedError::Communication`]: nothing has changed but what is due before the failed exchange, so that the call
    /// can be repeated. [`DistributedError::Disagreement`] if ranks count other steps, [`DistributedError::NoState`] if all ranks join,
    /// [`DistributedError::Checkpoint`] if this rank joins with other settings than the others.
    pub fn synchronize(
        &mut self,
        params: &mut [f32],
        communicator: &mut (impl Communicator + ?Sized),
    ) -> Result<(), DistributedError> {
        check_len("params", self.len, params.len())?;
        loop {
            if let (false, Some(fragment)) = (self.joins, self.next_merge()) {
                let alpha = self.local_weight;
                self.fragments[fragment].merge(params, alpha)?;
            } else if self.joins || self.next_exchange().is_some() {
                self.exchange(params, communicator)?;
            } else {
                return Ok(());
            }
        }
    }

    /// The fragment to exchange now.
    fn next_exchange(&self) -> Option<usize> {
        let is_due = |fragment: &Fragment| {
            let is_time = (self.steps + self.delay) % self.every == fragment.offset % self.every;
            self.steps > 0 && is_time && fragment.exchanged_at != self.steps
        };
        self.fragments.iter().position(is_due)
    }

    /// The fragment to merge now.
    fn next_merge(&self) -> Option<usize> {
        let is_due =
            |fragment: &Fragment| fragment.pending.is_some() && self.steps == fragment.exchanged_at + self.delay;
        self.fragments.iter().position(is_due)
    }

    /// Averages the differences of one fragment, after ranks that are behind have received the state.
    fn exchange(
        &mut self,
        params: &mut [f32],
        communicator: &mut (impl Communicator + ?Sized),
    ) -> Result<(), DistributedError> {
        let fragment = self.next_exchange().map_or(u64::MAX, |fragment| fragment as u64);
        let own = Report { exchanges: self.exchanges, steps: self.steps, fragment, joins: self.joins.into() };
        let reports = group::gather_reports(communicator, own)?;
        let takes_part = group::take_part(&reports, own)?;
        let source = takes_part.iter().position(|&takes_part| takes_part).ok_or(DistributedError::NoState)?;
        let is_source = source == communicator.rank();
        if takes_part.contains(&false) {
            let state = if is_source { self.shared_state(params)? } else { Vec::new() };
            if let Some(state) = group::send_state(communicator, source, &takes_part, &state)? {
                self.load_shared(&state, params)?;
                self.joins = true;
            }
        }
        let (dtype, steps) = (self.dtype, self.steps);
        let Some(fragment) = self.fragments.get_mut(reports[source].fragment as usize) else {
            return Err(DistributedError::NoState);
        };
        let difference = (!self.joins).then(|| fragment.difference(params));
        let mean = wire::mean(communicator, dtype, (difference, fragment.len()), &takes_part)?;
        fragment.end_exchange(mean, steps);
        self.exchanges += 1;
        self.joins = false;
        Ok(())
    }
}
