//! The calls that sharded optimizers and `DiLoCo` ask of a group of processes.

use thiserror::Error;

/// A group of ranks that exchange host memory. Every rank of the group makes the same calls in the same order.
///
/// The terms are those of MPI: a *rank* is a member's number, counts have one entry per rank, and the data of all ranks lie
/// in the order of the ranks. Calls block until the result is there.
///
/// [`ThreadCommunicator`](super::ThreadCommunicator) implements it for threads of one process, the package `wgpu-optim-mpi`
/// for MPI. After an error the group is lost: further calls fail too.
pub trait Communicator {
    /// This member's number, below [`Communicator::size`].
    fn rank(&self) -> usize;

    /// Number of ranks, at least 1.
    fn size(&self) -> usize;

    /// Copies the bytes of rank `root` to all others. All slices are of one length.
    ///
    /// # Errors
    /// [`CommunicationError`].
    fn broadcast(&mut self, root: usize, bytes: &mut [u8]) -> Result<(), CommunicationError>;

    /// Replaces the values by their sums over all ranks, which are the same on all ranks. The order of additions is open.
    ///
    /// # Errors
    /// [`CommunicationError`].
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommunicationError>;

    /// Sums the values over all ranks, and writes the sums of this rank's block to `own`. Blocks have `counts` values. The
    /// order of additions is open.
    ///
    /// # Errors
    /// [`CommunicationError`].
    fn reduce_scatter(&mut self, values: &[f32], counts: &[usize], own: &mut [f32]) -> Result<(), CommunicationError>;

    /// Writes the bytes of all ranks to `all`, on every rank. Rank `i` has `counts[i]` bytes.
    ///
    /// # Errors
    /// [`CommunicationError`].
    fn all_gather(&mut self, own: &[u8], counts: &[usize], all: &mut [u8]) -> Result<(), CommunicationError>;

    /// Writes the bytes of all ranks to `all` on rank `root`. Rank `i` has `counts[i]` bytes; `all` is empty on other ranks.
    ///
    /// # Errors
    /// [`CommunicationError`].
    fn gather(&mut self, root: usize, own: &[u8], counts: &[usize], all: &mut [u8]) -> Result<(), CommunicationError>;

    /// Sends a block of `sent` to each rank, and writes the block from each rank to `received`. The blocks for rank `i` have
    /// `send_counts[i]` bytes, those from rank `i` `receive_counts[i]`.
    ///
    /// # Errors
    /// [`CommunicationError`].
    fn all_to_all(
        &mut self,
        sent: &[u8],
        send_counts: &[usize],
        received: &mut [u8],
        receive_counts: &[usize],
    ) -> Result<(), CommunicationError>;

    /// Waits until every rank has made this call.
    ///
    /// # Errors
    /// [`CommunicationError`].
    fn barrier(&mut self) -> Result<(), CommunicationError>;
}

impl<C: Communicator + ?Sized> Communicator for &mut C {
    fn rank(&self) -> usize {
        (**self).rank()
    }

    fn size(&self) -> usize {
        (**self).size()
    }

    fn broadcast(&mut self, root: usize, bytes: &mut [u8]) -> Result<(), CommunicationError> {
        (**self).broadcast(root, bytes)
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommunicationError> {
        (**self).all_reduce(values)
    }

    fn reduce_scatter(&mut self, values: &[f32], counts: &[usize], own: &mut [f32]) -> Result<(), CommunicationError> {
        (**self).reduce_scatter(values, counts, own)
    }

    fn all_gather(&mut self, own: &[u8], counts: &[usize], all: &mut [u8]) -> Result<(), CommunicationError> {
        (**self).all_gather(own, counts, all)
    }

    fn gather(&mut self, root: usize, own: &[u8], counts: &[usize], all: &mut [u8]) -> Result<(), CommunicationError> {
        (**self).gather(root, own, counts, all)
    }

    fn all_to_all(
        &mut self,
        sent: &[u8],
        send_counts: &[usize],
        received: &mut [u8],
        receive_counts: &[usize],
    ) -> Result<(), CommunicationError> {
        (**self).all_to_all(sent, send_counts, received, receive_counts)
    }

    fn barrier(&mut self) -> Result<(), CommunicationError> {
        (**self).barrier()
    }
}

/// The errors of a [`Communicator`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommunicationError {
    /// A rank has left the group.
    #[error("rank {rank} has left the group; continue from the last checkpoint with the remaining ranks")]
    RankLost {
        /// The rank.
        rank: usize,
    },
    /// A rank did not answer in time.
    #[error("no answer from rank {rank} within {seconds} s; it may hang, or make other calls than this rank")]
    Timeout {
        /// The rank.
        rank: usize,
        /// The limit.
        seconds: u64,
    },
    /// The lengths of slices and counts do not fit each other.
    #[error("{call}: {what} has {actual} elements, the counts say {expected}; all ranks must pass the same counts")]
    Length {
        /// The call.
        call: &'static str,
        /// The slice or the list of counts.
        what: &'static str,
        /// Elements according to the counts.
        expected: usize,
        /// Elements of the slice.
        actual: usize,
    },
    /// A rank makes another call than this one.
    #[error(
        "rank {rank} calls {other} where this rank calls {call}; all ranks must make the same calls in the same order"
    )]
    Mismatch {
        /// The call of this rank.
        call: &'static str,
        /// The other rank.
        rank: usize,
        /// The call of the other rank.
        other: &'static str,
    },
    /// No rank of the group has the number of the root, or two ranks name different roots.
    #[error("{call}: root {root}; all ranks must name the same root below {limit}")]
    Root {
        /// The call.
        call: &'static str,
        /// The root that this rank names.
        root: usize,
        /// The size of the group.
        limit: usize,
    },
    /// The transport failed.
    #[error("{call}: {message}")]
    Transport {
        /// The call.
        call: &'static str,
        /// The transport's message.
        message: String,
    },
}
