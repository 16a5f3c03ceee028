use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{CommunicationError, Communicator, lengths};

/// The default of [`ThreadCommunicator::with_timeout`].
const TIMEOUT: Duration = Duration::from_secs(60);

/// A group of ranks in one process, each on a thread of its own. For tests, simulation and several devices of one machine.
///
/// Sums add the ranks' values in the order of the ranks: results have the same bits in every run. A call returns when all
/// ranks have made it.
///
/// A communicator that is dropped leaves the group. Calls that wait for it, and all later ones, return
/// [`CommunicationError::RankLost`]. A panic of a thread drops its communicator too.
///
/// ```
/// use std::thread;
/// use wgpu_optim::distributed::{Communicator, ThreadCommunicator};
///
/// thread::scope(|scope| {
///     for mut communicator in ThreadCommunicator::group(3) {
///         scope.spawn(move || {
///             let mut values = [communicator.rank() as f32; 2];
///             communicator.all_reduce(&mut values).unwrap();
///             assert_eq!(values, [3.0; 2]);
///         });
///     }
/// });
/// ```
#[derive(Debug)]
pub struct ThreadCommunicator {
    rank: usize,
    size: usize,
    timeout: Duration,
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Calls that all ranks have made.
    completed: u64,
    /// The offers to the next call, by rank.
    open: Vec<Option<Offer>>,
    /// The offers to the last completed call. No rank completes another one before all have fetched these.
    last: Arc<[Offer]>,
    /// The first error. It ends the group.
    failure: Option<CommunicationError>,
}

/// The contribution of a rank to a call.
#[derive(Debug)]
struct Offer {
    call: &'static str,
    root: usize,
    /// Elements of the blocks in `bytes`, or of all ranks' blocks.
    counts: Vec<usize>,
    bytes: Vec<u8>,
}

impl ThreadCommunicator {
    /// A group of `size` ranks, in their order. Each communicator is moved to a thread.
    pub fn group(size: usize) -> Vec<Self> {
        let open = std::iter::repeat_with(|| None).take(size).collect();
        let state = Mutex::new(State { completed: 0, open, last: Arc::new([]), failure: None });
        let group = Arc::new(Group { state, changed: Condvar::new() });
        (0..size).map(|rank| Self { rank, size, timeout: TIMEOUT, group: Arc::clone(&group) }).collect()
    }

    /// Sets how long a call of this rank waits for the others. Default: 60 s.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Contributes to a call, waits for the other ranks, and returns the offers of all.
    fn exchange(&self, offer: Offer) -> Result<Arc<[Offer]>, CommunicationError> {
        let mut state = self.group.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let completed = state.completed;
        state.open[self.rank] = Some(offer);
        if state.open.iter().all(Option::is_some) {
            state.last = state.open.iter_mut().filter_map(Option::take).collect();
            state.completed += 1;
            self.group.changed.notify_all();
            return Ok(Arc::clone(&state.last));
        }
        let waits = |state: &mut State| state.completed == completed && state.failure.is_none();
        let (mut state, _) =
            self.group.changed.wait_timeout_while(state, self.timeout, waits).unwrap_or_else(PoisonError::into_inner);
        // A rank may leave once it has made its last call: the others still complete that one.
        if state.completed > completed {
            return Ok(Arc::clone(&state.last));
        }
        let rank = state.open.iter().position(Option::is_none).unwrap_or(self.rank);
        let timeout = CommunicationError::Timeout { rank, seconds: self.timeout.as_secs() };
        let failure = state.failure.get_or_insert(timeout).clone();
        self.group.changed.notify_all();
        Err(failure)
    }

    /// The offers of all ranks, which agree with this rank about the call and its root.
    fn agree(
        &self,
        call: &'static str,
        root: usize,
        counts: &[usize],
        bytes: &[u8],
    ) -> Result<Arc<[Offer]>, CommunicationError> {
        if root >= self.size {
            return Err(CommunicationError::Root { call, root, limit: self.size });
        }
        let offers = self.exchange(Offer { call, root, counts: counts.to_vec(), bytes: bytes.to_vec() })?;
        for (rank, offer) in offers.iter().enumerate() {
            if offer.call != call {
                return self.fail(CommunicationError::Mismatch { call, rank, other: offer.call });
            }
            if offer.root != root {
                return self.fail(CommunicationError::Root { call, root, limit: self.size });
            }
        }
        Ok(offers)
    }

    /// As [`Self::agree`], with equal counts on all ranks.
    fn agree_on_counts(
        &self,
        call: &'static str,
        root: usize,
        counts: &[usize],
        bytes: &[u8],
    ) -> Result<Arc<[Offer]>, CommunicationError> {
        let offers = self.agree(call, root, counts, bytes)?;
        for (own, other) in offers.iter().flat_map(|offer| counts.iter().zip(&offer.counts)) {
            if let Err(error) = lengths::check(call, "the block of a rank", *other, *own) {
                return self.fail(error);
            }
        }
        Ok(offers)
    }

    /// Ends the group: the ranks no longer agree about what comes next.
    fn fail<T>(&self, error: CommunicationError) -> Result<T, CommunicationError> {
        self.group.lock().failure.get_or_insert_with(|| error.clone());
        self.group.changed.notify_all();
        Err(error)
    }
}

impl Group {
    /// A panic while the lock is held leaves no half-written state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ThreadCommunicator {
    fn drop(&mut self) {
        let rank = self.rank;
        self.group.lock().failure.get_or_insert(CommunicationError::RankLost { rank });
        self.group.changed.notify_all();
    }
}

impl Communicator for ThreadCommunicator {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn broadcast(&mut self, root: usize, bytes: &mut [u8]) -> Result<(), CommunicationError> {
        let offered = if self.rank == root { &*bytes } else { &[] };
        let offers = self.agree_on_counts("broadcast", root, &[bytes.len()], offered)?;
        bytes.copy_from_slice(&offers[root].bytes);
        Ok(())
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommunicationError> {
        let offers = self.agree_on_counts("all_reduce", 0, &[values.len()], bytemuck::cast_slice(values))?;
        sum(&offers, 0, values);
        Ok(())
    }

    fn reduce_scatter(&mut self, values: &[f32], counts: &[usize], own: &mut [f32]) -> Result<(), CommunicationError> {
        const CALL: &str = "reduce_scatter";
        lengths::check_counts(CALL, counts, self.size)?;
        lengths::check(CALL, "values", values.len(), counts.iter().sum())?;
        lengths::check(CALL, "own", own.len(), counts[self.rank])?;
        let offers = self.agree_on_counts(CALL, 0, counts, bytemuck::cast_slice(values))?;
        sum(&offers, counts[..self.rank].iter().sum(), own);
        Ok(())
    }

    fn all_gather(&mut self, own: &[u8], counts: &[usize], all: &mut [u8]) -> Result<(), CommunicationError> {
        const CALL: &str = "all_gather";
        lengths::check_counts(CALL, counts, self.size)?;
        lengths::check(CALL, "own", own.len(), counts[self.rank])?;
        lengths::check(CALL, "all", all.len(), counts.iter().sum())?;
        let offers = self.agree_on_counts(CALL, 0, counts, own)?;
        concatenate(&offers, all);
        Ok(())
    }

    fn gather(&mut self, root: usize, own: &[u8], counts: &[usize], all: &mut [u8]) -> Result<(), CommunicationError> {
        const CALL: &str = "gather";
        lengths::check_counts(CALL, counts, self.size)?;
        lengths::check(CALL, "own", own.len(), counts[self.rank])?;
        let is_root = self.rank == root;
        lengths::check(CALL, "all", all.len(), if is_root { counts.iter().sum() } else { 0 })?;
        let offers = self.agree_on_counts(CALL, root, counts, own)?;
        if is_root {
            concatenate(&offers, all);
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
        lengths::check_counts(CALL, send_counts, self.size)?;
        lengths::check_counts(CALL, receive_counts, self.size)?;
        lengths::check(CALL, "sent", sent.len(), send_counts.iter().sum())?;
        lengths::check(CALL, "received", received.len(), receive_counts.iter().sum())?;
        let offers = self.agree(CALL, 0, send_counts, sent)?;
        let mut rest = received;
        for (offer, &count) in offers.iter().zip(receive_counts) {
            if let Err(error) = lengths::check(CALL, "the block from a rank", offer.counts[self.rank], count) {
                return self.fail(error);
            }
            let start = offer.counts[..self.rank].iter().sum::<usize>();
            let (block, next) = rest.split_at_mut(count);
            block.copy_from_slice(&offer.bytes[start..start + count]);
            rest = next;
        }
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), CommunicationError> {
        self.agree("barrier", 0, &[], &[]).map(drop)
    }
}

/// Sums the ranks' values from element `start` on, in the order of the ranks.
fn sum(offers: &[Offer], start: usize, sums: &mut [f32]) {
    const WIDTH: usize = size_of::<f32>();
    for (rank, offer) in offers.iter().enumerate() {
        let values = offer.bytes[start * WIDTH..].chunks_exact(WIDTH).map(bytemuck::pod_read_unaligned::<f32>);
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = if rank == 0 { value } else { *sum + value };
        }
    }
}

/// Writes the ranks' bytes one after the other.
fn concatenate(offers: &[Offer], all: &mut [u8]) {
    let mut rest = all;
    for offer in offers {
        let (block, next) = rest.split_at_mut(offer.bytes.len());
        block.copy_from_slice(&offer.bytes);
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    type Outcome = Result<(), CommunicationError>;

    /// The results of a function on every rank, in their order.
    fn on_ranks<T: Send>(size: usize, f: impl Fn(ThreadCommunicator) -> T + Sync) -> Vec<T> {
        thread::scope(|scope| {
            let spawn = |communicator| scope.spawn(|| f(communicator));
            let threads: Vec<_> = ThreadCommunicator::group(size).into_iter().map(spawn).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// Values whose sum in f32 depends on the order of additions.
    fn value(rank: usize, at: usize) -> f32 {
        [1e8, 1.0, -1e8, 3.0][rank] + at as f32
    }

    fn in_order(size: usize, at: usize) -> f32 {
        (1..size).fold(value(0, at), |sum, rank| sum + value(rank, at))
    }

    /// Counts with an empty block: [2, 0, 1, 3] and its beginnings.
    fn counts(size: usize) -> Vec<usize> {
        [2, 0, 1, 3][..size].to_vec()
    }

    fn block(rank: usize, len: usize) -> Vec<u8> {
        (0..len).map(|at| (16 * rank + at) as u8).collect()
    }

    #[test]
    fn sums_add_in_the_order_of_the_ranks() {
        for size in 1..=4 {
            let counts = counts(size);
            let len = counts.iter().sum();
            let results = on_ranks(size, |mut communicator| {
                let mut values: Vec<_> = (0..len).map(|at| value(communicator.rank(), at)).collect();
                let mut own = vec![0.0; counts[communicator.rank()]];
                communicator.reduce_scatter(&values, &counts, &mut own).unwrap();
                communicator.all_reduce(&mut values).unwrap();
                (values, own)
            });
            let expected: Vec<_> = (0..len).map(|at| in_order(size, at)).collect();
            assert!(results.iter().all(|(values, _)| *values == expected), "{size} ranks");
            let blocks: Vec<_> = results.into_iter().flat_map(|(_, own)| own).collect();
            assert_eq!(blocks, expected, "{size} ranks");
        }
    }

    #[test]
    fn blocks_arrive_in_the_order_of_the_ranks() {
        for size in 1..=4 {
            let counts = counts(size);
            let all: Vec<_> = (0..size).flat_map(|rank| block(rank, counts[rank])).collect();
            let root = size - 1;
            for (rank, (gathered, at_root, sent)) in on_ranks(size, |mut communicator| {
                let rank = communicator.rank();
                let own = block(rank, counts[rank]);
                let mut gathered = vec![0; all.len()];
                communicator.all_gather(&own, &counts, &mut gathered).unwrap();
                let mut at_root = vec![0; if rank == root { all.len() } else { 0 }];
                communicator.gather(root, &own, &counts, &mut at_root).unwrap();
                let mut sent = if rank == root { vec![7, 8] } else { vec![0; 2] };
                communicator.broadcast(root, &mut sent).unwrap();
                communicator.barrier().unwrap();
                (gathered, at_root, sent)
            })
            .into_iter()
            .enumerate()
            {
                assert_eq!(gathered, all);
                assert_eq!(at_root, if rank == root { all.as_slice() } else { &[] });
                assert_eq!(sent, [7, 8]);
            }
        }
    }

    /// Rank `i` sends `i + j` bytes to rank `j`: nothing to itself if it is rank 0.
    #[test]
    fn each_rank_sends_a_block_to_each() {
        for size in 1..=4 {
            on_ranks(size, |mut communicator| {
                let rank = communicator.rank();
                let counts: Vec<_> = (0..size).map(|other| rank + other).collect();
                let sent: Vec<_> = (0..size).flat_map(|to| vec![(16 * rank + to) as u8; rank + to]).collect();
                let mut received = vec![0; sent.len()];
                communicator.all_to_all(&sent, &counts, &mut received, &counts).unwrap();
                let expected: Vec<_> = (0..size).flat_map(|from| vec![(16 * from + rank) as u8; rank + from]).collect();
                assert_eq!(received, expected);
            });
        }
    }

    /// A rank that returns at once drops its communicator.
    #[test]
    fn a_lost_rank_ends_calls_that_wait_and_later_ones() {
        for lost in 0..4 {
            let results = on_ranks(4, |mut communicator| {
                if communicator.rank() == lost {
                    return vec![];
                }
                vec![communicator.barrier(), communicator.all_reduce(&mut [1.0])]
            });
            for (rank, results) in results.into_iter().enumerate().filter(|(rank, _)| *rank != lost) {
                assert_eq!(results, vec![Err(CommunicationError::RankLost { rank: lost }); 2], "rank {rank}");
            }
        }
    }

    #[test]
    fn a_panic_is_a_lost_rank() {
        let mut group = ThreadCommunicator::group(2);
        let mut second = group.pop().unwrap();
        let first = group.pop().unwrap();
        let thread = thread::spawn(move || {
            let _dropped_by_the_panic = first;
            std::panic::resume_unwind(Box::new(()));
        });
        assert_eq!(second.barrier(), Err(CommunicationError::RankLost { rank: 0 }));
        assert!(thread.join().is_err());
    }

    /// The first rank leaves after its last call. The others still finish that call.
    #[test]
    fn a_rank_that_leaves_after_a_call_does_not_spoil_it() {
        for _ in 0..200 {
            let results = on_ranks(3, |mut communicator| communicator.barrier());
            assert_eq!(results, vec![Ok(()); 3]);
        }
    }

    #[test]
    fn a_rank_that_does_not_answer_is_a_timeout() {
        let mut group = ThreadCommunicator::group(3);
        let silent = group.remove(1);
        let begin = Instant::now();
        let waits = |communicator: ThreadCommunicator, millis| {
            let mut communicator = communicator.with_timeout(Duration::from_millis(millis));
            thread::spawn(move || communicator.barrier())
        };
        let last = waits(group.pop().unwrap(), 60_000);
        let first = waits(group.pop().unwrap(), 1_000);
        let expected = Err(CommunicationError::Timeout { rank: 1, seconds: 1 });
        assert_eq!((first.join().unwrap(), last.join().unwrap()), (expected.clone(), expected));
        assert!((1..30).contains(&begin.elapsed().as_secs()));
        drop(silent);
    }

    #[test]
    fn ranks_that_make_different_calls_are_told() {
        let results = on_ranks(3, |mut communicator| match communicator.rank() {
            2 => communicator.all_reduce(&mut [1.0]),
            _ => communicator.barrier(),
        });
        let expected = |rank| match rank {
            2 => CommunicationError::Mismatch { call: "all_reduce", rank: 0, other: "barrier" },
            _ => CommunicationError::Mismatch { call: "barrier", rank: 2, other: "all_reduce" },
        };
        assert_eq!(results, [0, 1, 2].map(|rank| Err(expected(rank))));
        let results = on_ranks(2, |mut communicator| communicator.broadcast(communicator.rank(), &mut [0]));
        let expected = |root| Err(CommunicationError::Root { call: "broadcast", root, limit: 2 });
        assert_eq!(results, [expected(0), expected(1)]);
    }

    fn length(call: &'static str, what: &'static str, expected: usize, actual: usize) -> Outcome {
        Err(CommunicationError::Length { call, what, expected, actual })
    }

    #[test]
    fn ranks_that_pass_different_lengths_are_told() {
        let results = on_ranks(2, |mut communicator| {
            let counts = if communicator.rank() == 0 { [1, 2] } else { [3, 2] };
            let own = vec![0; counts[communicator.rank()]];
            communicator.all_gather(&own, &counts, &mut vec![0; counts[0] + counts[1]])
        });
        let expected = |own, other| length("all_gather", "the block of a rank", own, other);
        assert_eq!(results, [expected(1, 3), expected(3, 1)]);
        let results = on_ranks(2, |mut communicator| communicator.all_reduce(&mut vec![0.0; communicator.rank()]));
        let expected = |own, other| length("all_reduce", "the block of a rank", own, other);
        assert_eq!(results, [expected(0, 1), expected(1, 0)]);
        let results = on_ranks(2, |mut communicator| {
            let receive_counts = [1, communicator.rank()];
            let mut received = vec![0; 1 + communicator.rank()];
            communicator.all_to_all(&[0, 0], &[1, 1], &mut received, &receive_counts)
        });
        assert_eq!(results[0], length("all_to_all", "the block from a rank", 0, 1));
    }

    /// Such a call does not reach the other ranks: one rank alone gets the error.
    #[test]
    fn slices_that_do_not_fit_the_counts_are_refused() {
        let mut group = ThreadCommunicator::group(2);
        let one = &mut group[1];
        assert_eq!(one.all_gather(&[0], &[1], &mut [0]), length("all_gather", "the list of counts", 2, 1));
        assert_eq!(one.all_gather(&[0], &[1, 2], &mut [0; 3]), length("all_gather", "own", 2, 1));
        assert_eq!(one.all_gather(&[0], &[1, 1], &mut [0; 3]), length("all_gather", "all", 2, 3));
        assert_eq!(one.gather(0, &[0], &[1, 1], &mut [0; 2]), length("gather", "all", 0, 2));
        assert_eq!(one.gather(1, &[0], &[1, 1], &mut []), length("gather", "all", 2, 0));
        assert_eq!(one.reduce_scatter(&[0.0], &[1, 1], &mut [0.0]), length("reduce_scatter", "values", 2, 1));
        assert_eq!(one.reduce_scatter(&[0.0], &[1, 0], &mut [0.0]), length("reduce_scatter", "own", 0, 1));
        assert_eq!(one.all_to_all(&[0], &[1, 1], &mut [], &[0, 0]), length("all_to_all", "sent", 2, 1));
        assert_eq!(one.all_to_all(&[], &[0, 0], &mut [0], &[0, 0]), length("all_to_all", "received", 0, 1));
        assert_eq!(one.broadcast(2, &mut []), Err(CommunicationError::Root { call: "broadcast", root: 2, limit: 2 }));
    }
}
