#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

use std::fmt;

use mpi::datatype::{Partition, PartitionMut};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives, Root};
use mpi::{Count, Rank};
use wgpu_optim::distributed::{CommunicationError, Communicator};

/// The ranks of an MPI communicator.
///
/// Slices and counts that do not fit are errors on the rank that passes them; the others wait for it then. MPI ends the run
/// on its own errors, and on lost ranks.
pub struct MpiCommunicator {
    ranks: SimpleCommunicator,
    rank: usize,
    size: usize,
}

impl fmt::Debug for MpiCommunicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, size, .. } = self;
        f.debug_struct("MpiCommunicator").field("rank", rank).field("size", size).finish_non_exhaustive()
    }
}

impl MpiCommunicator {
    /// Duplicates a communicator, such as `universe.world()`, so that other messages of the program do not interfere. All
    /// ranks call it.
    pub fn new(communicator: &impl mpi::traits::Communicator) -> Self {
        let ranks = communicator.duplicate();
        let [rank, size] = [ranks.rank(), ranks.size()].map(|number| usize::try_from(number).unwrap_or_default());
        Self { ranks, rank, size }
    }

    /// Refuses another number of counts than ranks, and a slice of another length than its counts say.
    fn check(
        &self,
        call: &'static str,
        counts: &[usize],
        slices: &[(&'static str, usize, usize)],
    ) -> Result<(), CommunicationError> {
        let list = ("the list of counts", counts.len(), self.size);
        match std::iter::once(&list).chain(slices).find(|(_, actual, expected)| actual != expected) {
            None => Ok(()),
            Some(&(what, actual, expected)) => Err(CommunicationError::Length { call, what, expected, actual }),
        }
    }

    fn check_root(&self, call: &'static str, root: usize) -> Result<Rank, CommunicationError> {
        let rank = Rank::try_from(root).ok().filter(|_| root < self.size);
        rank.ok_or(CommunicationError::Root { call, root, limit: self.size })
    }
}

/// Counts and displacements as MPI has them: 32 bits with a sign.
struct Blocks {
    counts: Vec<Count>,
    starts: Vec<Count>,
}

impl Blocks {
    fn new(call: &'static str, counts: &[usize]) -> Result<Self, CommunicationError> {
        let mut starts = Vec::with_capacity(counts.len());
        let mut end = 0;
        for &count in counts {
            starts.push(end as Count);
            end += count;
        }
        let largest = Count::MAX as usize;
        if end > largest {
            let message = format!("{end} elements; MPI counts up to {largest} in one call: exchange smaller pieces");
            return Err(CommunicationError::Transport { call, message });
        }
        Ok(Self { counts: counts.iter().map(|&count| count as Count).collect(), starts })
    }

    fn of<'a>(&'a self, bytes: &'a [u8]) -> Partition<'a, [u8], &'a [Count], &'a [Count]> {
        Partition::new(bytes, &self.counts[..], &self.starts[..])
    }

    fn of_mut<'a>(&'a self, bytes: &'a mut [u8]) -> PartitionMut<'a, [u8], &'a [Count], &'a [Count]> {
        PartitionMut::new(bytes, &self.counts[..], &self.starts[..])
    }
}

/// Bytes at a real address. MPI takes the address of Rust's empty slices of bytes for its constant `MPI_IN_PLACE`.
fn addressed(bytes: &[u8]) -> &[u8] {
    static SPARE: [u8; 1] = [0];
    if bytes.is_empty() { &SPARE[..0] } else { bytes }
}

/// As [`addressed`]; `spare` has the address for an empty slice.
fn addressed_mut<'a>(bytes: &'a mut [u8], spare: &'a mut [u8; 1]) -> &'a mut [u8] {
    if bytes.is_empty() { &mut spare[..0] } else { bytes }
}

impl Communicator for MpiCommunicator {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn broadcast(&mut self, root: usize, bytes: &mut [u8]) -> Result<(), CommunicationError> {
        const CALL: &str = "broadcast";
        let root = self.check_root(CALL, root)?;
        Blocks::new(CALL, &[bytes.len()])?;
        self.ranks.process_at_rank(root).broadcast_into(addressed_mut(bytes, &mut [0]));
        Ok(())
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommunicationError> {
        let (len, size) = (values.len(), self.size);
        let counts: Vec<usize> = (0..size).map(|rank| len / size + usize::from(rank < len % size)).collect();
        let mut own = vec![0.0; counts[self.rank]];
        self.reduce_scatter(values, &counts, &mut own)?;
        let blocks = Blocks::new("all_reduce", &counts)?;
        let mut all = PartitionMut::new(values, &blocks.counts[..], &blocks.starts[..]);
        self.ranks.all_gather_varcount_into(&own[..], &mut all);
        Ok(())
    }

    fn reduce_scatter(&mut self, values: &[f32], counts: &[usize], own: &mut [f32]) -> Result<(), CommunicationError> {
        const CALL: &str = "reduce_scatter";
        let all = counts.iter().sum();
        self.check(CALL, counts, &[("values", values.len(), all)])?;
        self.check(CALL, counts, &[("own", own.len(), counts[self.rank])])?;
        let mut blocks = vec![0.0; own.len() * self.size];
        let (sent, received) = (Blocks::new(CALL, counts)?, Blocks::new(CALL, &vec![own.len(); self.size])?);
        let sent = Partition::new(values, &sent.counts[..], &sent.starts[..]);
        let mut received = PartitionMut::new(&mut blocks[..], &received.counts[..], &received.starts[..]);
        self.ranks.all_to_all_varcount_into(&sent, &mut received);
        for (rank, block) in blocks.chunks_exact(own.len().max(1)).enumerate() {
            for (sum, value) in own.iter_mut().zip(block) {
                *sum = if rank == 0 { *value } else { *sum + value };
            }
        }
        Ok(())
    }

    fn all_gather(&mut self, own: &[u8], counts: &[usize], all: &mut [u8]) -> Result<(), CommunicationError> {
        const CALL: &str = "all_gather";
        self.check(CALL, counts, &[("all", all.len(), counts.iter().sum())])?;
        self.check(CALL, counts, &[("own", own.len(), counts[self.rank])])?;
        let (blocks, mut spare) = (Blocks::new(CALL, counts)?, [0]);
        let mut all = blocks.of_mut(addressed_mut(all, &mut spare));
        self.ranks.all_gather_varcount_into(addressed(own), &mut all);
        Ok(())
    }

    fn gather(&mut self, root: usize, own: &[u8], counts: &[usize], all: &mut [u8]) -> Result<(), CommunicationError> {
        const CALL: &str = "gather";
        let is_root = self.rank == root;
        let to = self.check_root(CALL, root)?;
        self.check(CALL, counts, &[("all", all.len(), if is_root { counts.iter().sum() } else { 0 })])?;
        self.check(CALL, counts, &[("own", own.len(), counts[self.rank])])?;
        let to = self.ranks.process_at_rank(to);
        let (blocks, mut spare) = (Blocks::new(CALL, counts)?, [0]);
        if is_root {
            to.gather_varcount_into_root(addressed(own), &mut blocks.of_mut(addressed_mut(all, &mut spare)));
        } else {
            to.gather_varcount_into(addressed(own));
        }
        Ok(())
    }

    fn all_to_all(
        &mut self,
        sent: &[u8],
        send_counts: &[usize],
        received: &mut [u8],
        receive_counts: &[usize],
    ) -> Result<(), CommunicationError> {
        const CALL: &str = "all_to_all";
        self.check(CALL, send_counts, &[("sent", sent.len(), send_counts.iter().sum())])?;
        self.check(CALL, receive_counts, &[("received", received.len(), receive_counts.iter().sum())])?;
        let (to, from) = (Blocks::new(CALL, send_counts)?, Blocks::new(CALL, receive_counts)?);
        let mut spare = [0];
        let mut received = from.of_mut(addressed_mut(received, &mut spare));
        self.ranks.all_to_all_varcount_into(&to.of(addressed(sent)), &mut received);
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), CommunicationError> {
        self.ranks.barrier();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_elements_than_mpi_counts_are_refused() {
        let most = Count::MAX as usize;
        assert_eq!(Blocks::new("all_gather", &[most, 0]).unwrap().starts, [0, Count::MAX]);
        let error = Blocks::new("all_gather", &[most, 1]).err().unwrap();
        assert!(matches!(error, CommunicationError::Transport { call: "all_gather", .. }), "{error:?}");
    }
}
