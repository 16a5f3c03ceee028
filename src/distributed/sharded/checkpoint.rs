//! Checkpoints of all ranks in one file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::Sharded;
use crate::checkpoint::{
    CheckpointError, Entry, Header, LoadOptions, Loaded, Place, SmallState, Writer, bulk_entries, replace_file,
};
use crate::distributed::exchange::{read_all, write_all};
use crate::distributed::{Communicator, DistributedError};
use crate::gpu::BufferRange;
use crate::host::{HostSlice, HostSliceMut};
use crate::plan::{PlanState, StepPlan};
use crate::tile::{TILE_LEN, split_at_multiples};
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
    /// number of ranks loads, and an optimizer without ranks. All ranks call it. Accumulated gradients are saved as their mean.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::save`]; on the other ranks [`DistributedError::NotSaved`]. Nothing has changed then.
    /// [`DistributedError::Communication`].
    pub fn save(&mut self, path: impl AsRef<Path>, params: Option<HostSlice<'_>>) -> Result<(), DistributedError> {
        let checked = params.map_or(Ok(()), |params| self.optimizer.check_params(params));
        let source = checked.map(|()| HostSource { optimizer: &self.optimizer, params });
        save(&mut self.communicator, self.shares.iter(), path.as_ref(), source, params.is_some())
    }

    /// Continues from a file, as [`CpuOptimizer::load`]. All ranks call it, and each reads the file. Accumulated gradients
    /// continue on rank 0.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::load`]; on the other ranks [`DistributedError::NotLoaded`]. [`DistributedError::Communication`].
    pub fn load(
        &mut self,
        path: impl AsRef<Path>,
        params: Option<HostSliceMut<'_>>,
        options: &LoadOptions,
    ) -> Result<Loaded, DistributedError> {
        let loaded = self.optimizer.load(path, params, options);
        if loaded.is_ok() && self.optimizer.plan.settings.accumulates {
            let factor = self.accumulated_factor();
            let mut accumulated = self.optimizer.take_accumulated()?;
            for sum in &mut accumulated {
                *sum *= factor;
            }
            self.optimizer.put_accumulated(accumulated, factor == 0.0);
        }
        self.agree(loaded)
    }
}

impl<O, C: Communicator> Sharded<O, C> {
    /// The factor from the mean of accumulated gradients to those of this rank.
    fn accumulated_factor(&self) -> f32 {
        if self.communicator.rank() == ROOT { self.communicator.size() as f32 } else { 0.0 }
    }

    /// The result, unless another rank failed.
    fn agree<T>(&mut self, loaded: Result<T, CheckpointError>) -> Result<T, DistributedError> {
        let all = all_agree(&mut self.communicator, loaded.is_ok())?;
        let loaded = loaded?;
        if all { Ok(loaded) } else { Err(DistributedError::NotLoaded) }
    }
}

impl<C: Communicator> Sharded<Optimizer, C> {
    /// Saves the optimizer, and `params` if they are given, as [`Optimizer::save`] does: rank 0 writes one file, which any
    /// number of ranks loads, on either engine, and an optimizer without ranks. All ranks call it. Accumulated gradients are
    /// saved as their mean.
    ///
    /// # Errors
    /// Those of [`Optimizer::save`]; on the other ranks [`DistributedError::NotSaved`]. Nothing has changed then.
    /// [`DistributedError::Communication`].
    pub fn save(&mut self, path: impl AsRef<Path>, params: Option<BufferSlices<'_>>) -> Result<(), DistributedError> {
        let source =
            self.optimizer.saved_params(params).map(|params| DeviceSource { optimizer: &self.optimizer, params });
        save(&mut self.communicator, self.shares.iter(), path.as_ref(), source, params.is_some())
    }

    /// Continues from a file, as [`Optimizer::load`]. All ranks call it, and each reads the file. Accumulated gradients continue
    /// on rank 0.
    ///
    /// # Errors
    /// Those of [`Optimizer::load`]; on the other ranks [`DistributedError::NotLoaded`]. [`DistributedError::Communication`].
    pub fn load(
        &mut self,
        path: impl AsRef<Path>,
        params: Option<BufferSlices<'_>>,
        options: &LoadOptions,
    ) -> Result<Loaded, DistributedError> {
        let loaded = self.optimizer.load(path, params, options);
        if loaded.is_ok() && self.optimizer.plan().settings.accumulates {
            let (factor, len) = (self.accumulated_factor(), self.optimizer.plan().layout.len());
            let mut stream = self.optimizer.accumulated()?;
            let mut sums: Vec<f32> = bytemuck::pod_collect_to_vec(&read_all(&mut stream, len)?);
            for sum in &mut sums {
                *sum *= factor;
            }
            write_all(&mut stream, bytemuck::cast_slice(&sums))?;
        }
        self.agree(loaded)
    }
}

/// Whether all ranks say yes.
fn all_agree(communicator: &mut impl Communicator, own: bool) -> Result<bool, DistributedError> {
    let mut answers = vec![0; communicator.size()];
    communicator.all_gather(&[own.into()], &vec![1; answers.len()], &mut answers)?;
    Ok(answers.iter().all(|&answer| answer == 1))
}

/// Writes the file on the root, with the states of all ranks. Ranks agree before they begin, before the file takes the place
/// of an older one, and after.
fn save<'a>(
    communicator: &mut impl Communicator,
    shares: impl Iterator<Item = &'a Range<usize>>,
    path: &Path,
    source: Result<impl Source, crate::Error>,
    has_params: bool,
) -> Result<(), DistributedError> {
    let prepared = source.map_err(CheckpointError::from).and_then(|source| Ok((source.small()?, source)));
    let (small, source) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            all_agree(communicator, false)?;
            return Err(error.into());
        }
    };
    let (plan, state) = (source.plan(), source.state());
    let mut entries = bulk_entries(plan, has_params, *state.mode, &HashMap::new());
    let bulk = entries.len();
    entries.extend(small.entries(plan));
    let gathering =
        Gathering { source: &source, small: &small, entries: &entries, bulk, shares: shares.cloned().collect() };
    let mut failure = None;
    if communicator.rank() != ROOT {
        let is_saved = all_agree(communicator, true)? && {
            gathering.run(communicator, &mut |_| {}, &mut failure)?;
            all_agree(communicator, failure.is_none())? && all_agree(communicator, true)?
        };
        return failure
            .map_or(Ok(()), |error| Err(error.into()))
            .and(is_saved.then_some(()).ok_or(DistributedError::NotSaved));
    }
    // The exchanges so far, and whether all ranks agreed.
    let mut agreed = None;
    let saved = replace_file(path, |file| {
        let mut writer = Writer::new(file, &Header::new(plan, &state, small.stats), &entries)?;
        let mut written = Ok(());
        // After an error the others still wait for the root's calls.
        let mut write = |bytes: &[u8]| {
            if written.is_ok() {
                written = writer.write(bytes);
            }
        };
        let mut exchange = || {
            if !all_agree(communicator, true)? {
                return Ok(false);
            }
            gathering.run(communicator, &mut write, &mut failure)?;
            all_agree(communicator, failure.is_none())
        };
        let is_whole = agreed.insert(exchange()).as_ref().is_ok_and(|&all| all);
        written?;
        // The older file stays.
        if is_whole { writer.finish() } else { Err(CheckpointError::ChangedWhileRead) }
    });
    match agreed {
        None => all_agree(communicator, false).map(drop)?,
        Some(Ok(true)) => all_agree(communicator, saved.is_ok()).map(drop)?,
        Some(Ok(false)) => return Err(failure.map_or(DistributedError::NotSaved, DistributedError::from)),
        Some(Err(error)) => return Err(error),
    }
    Ok(saved?)
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
    /// Passes all bytes to `write`, on the root. After a failure of its own, a rank sends zeros.
    ///
    /// # Errors
    /// [`DistributedError::Communication`].
    fn run(
        &self,
        communicator: &mut impl Communicator,
        write: &mut dyn FnMut(&[u8]),
        failure: &mut Option<CheckpointError>,
    ) -> Result<(), DistributedError> {
        let is_root = communicator.rank() == ROOT;
        let weight = (communicator.size() as f32).recip();
        for (number, entry) in self.entries.iter().enumerate() {
            match entry.place {
                Place::State(_) => {
                    for (rank, share) in self.shares.iter().enumerate() {
                        self.gather(communicator, entry, (rank, share), write, failure)?;
                    }
                }
                Place::Accumulated => {
                    for window in split_at_multiples(entry.range.start, entry.range.end, WINDOW) {
                        let bytes = self.bytes(&entry.part(window), failure);
                        let mut sums: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
                        communicator.all_reduce(&mut sums)?;
                        for sum in &mut sums {
                            *sum *= weight;
                        }
                        write(bytemuck::cast_slice(&sums));
                    }
                }
                place if is_root && number >= self.bulk => write(self.small.bytes(place)),
                Place::Params | Place::TrainingParams if is_root => {
                    for window in split_at_multiples(entry.range.start, entry.range.end, WINDOW) {
                        write(&self.bytes(&entry.part(window), failure));
                    }
                }
                _ if is_root => write(&self.bytes(entry, failure)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes of a tensor of this rank; zeros after a failure.
    fn bytes(&self, entry: &Entry, failure: &mut Option<CheckpointError>) -> Cow<'_, [u8]> {
        if failure.is_none() {
            match self.source.bytes(entry, self.small) {
                Ok(bytes) => return bytes,
                Err(error) => *failure = Some(error),
            }
        }
        vec![0; entry.bytes()].into()
    }

    /// Gathers the elements of one rank.
    fn gather(
        &self,
        communicator: &mut impl Communicator,
        entry: &Entry,
        (rank, share): (usize, &Range<usize>),
        write: &mut dyn FnMut(&[u8]),
        failure: &mut Option<CheckpointError>,
    ) -> Result<(), DistributedError> {
        let (start, end) = (entry.range.start.max(share.start), entry.range.end.min(share.end));
        // Windows end with blocks of 8-bit states.
        for window in split_at_multiples(start, end, WINDOW) {
            let part = entry.part(window);
            let mut counts = vec![0; self.shares.len()];
            counts[rank] = part.bytes();
            let is_own = communicator.rank() == rank;
            let own = if is_own { self.bytes(&part, failure) } else { Cow::default() };
            let mut all = vec![0; if communicator.rank() == ROOT { counts[rank] } else { 0 }];
            communicator.gather(ROOT, &own, &counts, &mut all)?;
            write(&all);
        }
        Ok(())
    }
}
