//! Checkpoints of all ranks in one file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::Sharded;
use crate::checkpoint::{
    CheckpointError, Entry, Header, LoadOptions, Loaded, Place, SmallState, Writer, bulk_entries, replace_file,
};
use crate::distributed::{Communicator, DistributedError};
use crate::gpu::BufferRange;
use crate::host::{HostSlice, HostSliceMut};
use crate::plan::{PlanState, StepPlan};
use crate::tile::TILE_LEN;
use crate::{BufferSlices, CpuOptimizer, Optimizer};

/// The rank that writes the file.
const ROOT: usize = 0;
/// Elements that are gathered at a time.
const WINDOW: usize = 128 * TILE_LEN;

/// An optimizer of one rank, and its parameters.
trait Source {
    fn plan(&self) -> &StepPlan;

    fn state(&self) -> PlanState;

    /// # Errors
    /// [`CheckpointError::Device`].
    fn small(&self) -> Result<SmallState, CheckpointError>;

    /// The bytes of a tensor that is not small, or of some of its elements.
    ///
    /// # Errors
    /// [`CheckpointError::Device`].
    fn bytes<'a>(&'a self, entry: &Entry, small: &'a SmallState) -> Result<Cow<'a, [u8]>, CheckpointError>;
}

struct HostSource<'a> {
    optimizer: &'a CpuOptimizer,
    params: Option<HostSlice<'a>>,
}

impl Source for HostSource<'_> {
    fn plan(&self) -> &StepPlan {
        &self.optimizer.plan
    }

    fn state(&self) -> PlanState {
        self.plan().state.clone()
    }

    fn small(&self) -> Result<SmallState, CheckpointError> {
        Ok(self.optimizer.small_state())
    }

    fn bytes<'a>(&'a self, entry: &Entry, small: &'a SmallState) -> Result<Cow<'a, [u8]>, CheckpointError> {
        Ok(self.optimizer.entry_bytes(entry, small, self.params))
    }
}

struct DeviceSource<'a> {
    optimizer: &'a Optimizer,
    params: Option<Vec<BufferRange>>,
}

impl Source for DeviceSource<'_> {
    fn plan(&self) -> &StepPlan {
        self.optimizer.plan()
    }

    fn state(&self) -> PlanState {
        self.optimizer.saved_state()
    }

    fn small(&self) -> Result<SmallState, CheckpointError> {
        self.optimizer.small_state()
    }

    fn bytes<'a>(&'a self, entry: &Entry, _: &'a SmallState) -> Result<Cow<'a, [u8]>, CheckpointError> {
        self.optimizer.entry_bytes(entry, self.params.as_deref()).map(Cow::from)
    }
}

impl<C: Communicator> Sharded<CpuOptimizer, C> {
    /// Saves the optimizer, and `params` if they are given, as [`CpuOptimizer::save`] does: rank 0 writes one file, which any
    /// number of ranks loads, and an optimizer without ranks. All ranks call it.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::save`]; on the other ranks [`DistributedError::NotSaved`]. Nothing has changed then.
    /// [`DistributedError::Communication`].
    pub fn save(&mut self, path: impl AsRef<Path>, params: Option<HostSlice<'_>>) -> Result<(), DistributedError> {
        params.map_or(Ok(()), |params| self.optimizer.check_params(params))?;
        let source = HostSource { optimizer: &self.optimizer, params };
        let has_params = source.params.is_some();
        save(&mut self.communicator, self.shares.iter(), path.as_ref(), &source, has_params)
    }

    /// Continues from a file, as [`CpuOptimizer::load`]. All ranks call it, and each reads the file. Accumulated gradients
    /// continue on rank 0.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::load`].
    pub fn load(
        &mut self,
        path: impl AsRef<Path>,
        params: Option<HostSliceMut<'_>>,
        options: &LoadOptions,
    ) -> Result<Loaded, CheckpointError> {
        let loaded = self.optimizer.load(path, params, options)?;
        if self.communicator.rank() != ROOT && self.optimizer.plan.settings.accumulates {
            let accumulated = self.optimizer.take_accumulated()?;
            self.optimizer.put_accumulated(accumulated, true);
        }
        Ok(loaded)
    }
}

impl<C: Communicator> Sharded<Optimizer, C> {
    /// Saves the optimizer, and `params` if they are given, as [`Optimizer::save`] does: rank 0 writes one file, which any
    /// number of ranks loads, on either engine, and an optimizer without ranks. All ranks call it.
    ///
    /// # Errors
    /// Those of [`Optimizer::save`]; on the other ranks [`DistributedError::NotSaved`]. Nothing has changed then.
    /// [`DistributedError::Communication`].
    pub fn save(&mut self, path: impl AsRef<Path>, params: Option<BufferSlices<'_>>) -> Result<(), DistributedError> {
        let params = self.optimizer.saved_params(params)?;
        let source = DeviceSource { optimizer: &self.optimizer, params };
        let has_params = source.params.is_some();
        save(&mut self.communicator, self.shares.iter(), path.as_ref(), &source, has_params)
    }

    /// Continues from a file, as [`Optimizer::load`]. All ranks call it, and each reads the file. Accumulated gradients continue
    /// on rank 0.
    ///
    /// # Errors
    /// Those of [`Optimizer::load`].
    pub fn load(
        &mut self,
        path: impl AsRef<Path>,
        params: Option<BufferSlices<'_>>,
        options: &LoadOptions,
    ) -> Result<Loaded, CheckpointError> {
        let loaded = self.optimizer.load(path, params, options)?;
        if self.communicator.rank() != ROOT {
            self.optimizer.clear_accumulated();
        }
        Ok(loaded)
    }
}

/// Writes the file on the root, with the states of all ranks.
fn save<'a>(
    communicator: &mut impl Communicator,
    shares: impl Iterator<Item = &'a Range<usize>>,
    path: &Path,
    source: &impl Source,
    has_params: bool,
) -> Result<(), DistributedError> {
    let (plan, state, small) = (source.plan(), source.state(), source.small()?);
    let mut entries = bulk_entries(plan, has_params, *state.mode, &HashMap::new());
    let bulk = entries.len();
    entries.extend(small.entries(plan));
    let gathering = Gathering { source, small: &small, entries: &entries, bulk, shares: shares.cloned().collect() };
    if communicator.rank() != ROOT {
        let is_saved = announced(communicator, true)? && {
            gathering.run(communicator, &mut |_| {})?;
            announced(communicator, true)?
        };
        return if is_saved { Ok(()) } else { Err(DistributedError::NotSaved) };
    }
    let mut gathered = None;
    let saved = replace_file(path, |file| {
        let mut writer = Writer::new(file, &Header::new(plan, &state, small.stats), &entries)?;
        let mut written = Ok(());
        // After an error the others still wait for the root's calls.
        let mut write = |bytes: &[u8]| {
            if written.is_ok() {
                written = writer.write(bytes);
            }
        };
        let result = announced(communicator, true).and_then(|_| gathering.run(communicator, &mut write));
        written?;
        let is_whole = result.is_ok();
        gathered = Some(result);
        // The older file stays.
        if is_whole { writer.finish() } else { Err(CheckpointError::ChangedWhileRead) }
    });
    gathered.unwrap_or(Ok(()))?;
    announced(communicator, saved.is_ok())?;
    Ok(saved?)
}

/// The root's answer on all ranks.
fn announced(communicator: &mut impl Communicator, answer: bool) -> Result<bool, DistributedError> {
    let mut byte = [u8::from(answer)];
    communicator.broadcast(ROOT, &mut byte)?;
    Ok(byte == [1])
}

/// The tensors of a checkpoint, on their way to the root.
struct Gathering<'a, S> {
    source: &'a S,
    small: &'a SmallState,
    entries: &'a [Entry],
    /// Count of the entries that are not small.
    bulk: usize,
    shares: Vec<Range<usize>>,
}

impl<S: Source> Gathering<'_, S> {
    /// Passes all bytes to `write`, on the root.
    fn run(&self, communicator: &mut impl Communicator, write: &mut dyn FnMut(&[u8])) -> Result<(), DistributedError> {
        let is_root = communicator.rank() == ROOT;
        for (number, entry) in self.entries.iter().enumerate() {
            match entry.place {
                Place::State(_) => {
                    for (rank, share) in self.shares.iter().enumerate() {
                        self.gather(communicator, entry, (rank, share), write)?;
                    }
                }
                Place::Accumulated => {
                    for first in entry.range.clone().step_by(WINDOW) {
                        let part = entry.part(first..entry.range.end.min(first + WINDOW));
                        let mut sums: Vec<f32> = bytemuck::pod_collect_to_vec(&self.source.bytes(&part, self.small)?);
                        communicator.all_reduce(&mut sums)?;
                        write(bytemuck::cast_slice(&sums));
                    }
                }
                place if is_root && number >= self.bulk => write(self.small.bytes(place)),
                _ if is_root => write(&self.source.bytes(entry, self.small)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// Gathers the elements of one rank.
    fn gather(
        &self,
        communicator: &mut impl Communicator,
        entry: &Entry,
        (rank, share): (usize, &Range<usize>),
        write: &mut dyn FnMut(&[u8]),
    ) -> Result<(), DistributedError> {
        let (mut first, end) = (entry.range.start.max(share.start), entry.range.end.min(share.end));
        while first < end {
            // Windows end with blocks of 8-bit states.
            let part = entry.part(first..end.min((first + WINDOW) / TILE_LEN * TILE_LEN));
            first = part.range.end;
            let mut counts = vec![0; self.shares.len()];
            counts[rank] = part.bytes();
            let is_own = communicator.rank() == rank;
            let own = if is_own { self.source.bytes(&part, self.small)? } else { Cow::default() };
            let mut all = vec![0; if communicator.rank() == ROOT { counts[rank] } else { 0 }];
            communicator.gather(ROOT, &own, &counts, &mut all)?;
            write(&all);
        }
        Ok(())
    }
}
