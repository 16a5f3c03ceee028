use super::{CommunicationError, Communicator};

/// Counts the payload that a rank sends through a communicator.
///
/// The count is that of the algorithms that send each byte where it is needed and nowhere twice: rings and pairwise
/// exchanges, on which MPI relies for large messages. With `n` ranks, a rank sends
///
/// | call | bytes |
/// |---|---|
/// | `broadcast` | its bytes × (n - 1) as the root; others none |
/// | `reduce_scatter` | its values without its own block |
/// | `all_gather` | its block × (n - 1) |
/// | `all_reduce` | both of these, for blocks whose lengths differ by at most one value |
/// | `gather` | its block; the root none |
/// | `all_to_all` | all blocks but the one for itself |
/// | `barrier` | none |
///
/// Headers of the transport are not counted, nor are calls that fail.
#[derive(Debug)]
pub struct Counted<C> {
    communicator: C,
    bytes_sent: u64,
}

impl<C: Communicator> Counted<C> {
    /// Counts from now on.
    pub fn new(communicator: C) -> Self {
        Self { communicator, bytes_sent: 0 }
    }

    /// Bytes that this rank has sent.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Returns the communicator.
    pub fn into_inner(self) -> C {
        self.communicator
    }

    fn count(&mut self, bytes: usize) {
        self.bytes_sent += bytes as u64;
    }
}

impl<C: Communicator> Communicator for Counted<C> {
    fn rank(&self) -> usize {
        self.communicator.rank()
    }

    fn size(&self) -> usize {
        self.communicator.size()
    }

    fn broadcast(&mut self, root: usize, bytes: &mut [u8]) -> Result<(), CommunicationError> {
        self.communicator.broadcast(root, bytes)?;
        self.count(if self.rank() == root { bytes.len() * (self.size() - 1) } else { 0 });
        Ok(())
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommunicationError> {
        self.communicator.all_reduce(values)?;
        let (rank, size, len) = (self.rank(), self.size(), values.len());
        let own = len / size + usize::from(rank < len % size);
        self.count((len - own + own * (size - 1)) * size_of::<f32>());
        Ok(())
    }

    fn reduce_scatter(&mut self, values: &[f32], counts: &[usize], own: &mut [f32]) -> Result<(), CommunicationError> {
        self.communicator.reduce_scatter(values, counts, own)?;
        self.count(size_of_val(values) - size_of_val(own));
        Ok(())
    }

    fn all_gather(&mut self, own: &[u8], counts: &[usize], all: &mut [u8]) -> Result<(), CommunicationError> {
        self.communicator.all_gather(own, counts, all)?;
        self.count(own.len() * (self.size() - 1));
        Ok(())
    }

    fn gather(&mut self, root: usize, own: &[u8], counts: &[usize], all: &mut [u8]) -> Result<(), CommunicationError> {
        self.communicator.gather(root, own, counts, all)?;
        self.count(if self.rank() == root { 0 } else { own.len() });
        Ok(())
    }

    fn all_to_all(
        &mut self,
        sent: &[u8],
        send_counts: &[usize],
        received: &mut [u8],
        receive_counts: &[usize],
    ) -> Result<(), CommunicationError> {
        self.communicator.all_to_all(sent, send_counts, received, receive_counts)?;
        self.count(sent.len() - send_counts[self.rank()]);
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), CommunicationError> {
        self.communicator.barrier()
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use std::thread;

    use super::*;
    use crate::distributed::ThreadCommunicator;

    /// Bytes that ranks 0, 1 and 2 send by one call.
    fn sent(
        call: impl Fn(&mut Counted<ThreadCommunicator>, usize) -> Result<(), CommunicationError> + Sync,
    ) -> [u64; 3] {
        let group: [_; 3] = ThreadCommunicator::group(3).try_into().unwrap();
        thread::scope(|scope| {
            let spawn = |communicator: ThreadCommunicator| {
                scope.spawn(|| {
                    let mut counted = Counted::new(communicator);
                    let rank = counted.rank();
                    call(&mut counted, rank).unwrap();
                    counted.bytes_sent()
                })
            };
            group.map(spawn).map(|thread| thread.join().unwrap())
        })
    }

    #[test]
    fn each_call_counts_what_it_sends() {
        let counts = [5, 0, 2];
        assert_eq!(sent(|group, _| group.broadcast(1, &mut [0; 10])), [0, 20, 0]);
        assert_eq!(
            sent(|group, rank| group.reduce_scatter(&[0.0; 7], &counts, &mut vec![0.0; counts[rank]])),
            [8, 28, 20]
        );
        assert_eq!(sent(|group, rank| group.all_gather(&vec![0; counts[rank]], &counts, &mut [0; 7])), [10, 0, 4]);
        // Blocks of 3, 2 and 2 values.
        assert_eq!(sent(|group, _| group.all_reduce(&mut [0.0; 7])), [40, 36, 36]);
        assert_eq!(
            sent(|group, rank| group.gather(
                0,
                &vec![0; counts[rank]],
                &counts,
                &mut [0; 7][..if rank == 0 { 7 } else { 0 }]
            )),
            [0, 0, 2]
        );
        let to_all = |group: &mut Counted<ThreadCommunicator>, rank: usize| {
            let received = 3 * counts[rank];
            group.all_to_all(&[0; 7], &counts, &mut vec![0; received], &[counts[rank]; 3])
        };
        assert_eq!(sent(to_all), [2, 7, 5]);
        assert_eq!(sent(|group, _| group.barrier()), [0, 0, 0]);
    }
}
