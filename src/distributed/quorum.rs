use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ThreadCommunicator;

/// Forms groups of threads that come and go, for [`DiLoCo`](super::DiLoCo): a member that is late or gone is left out of a
/// group, and one that returns is in the next one.
///
/// A group forms when all members wait for it, or when the first of them has waited for the patience. Members that were not
/// in the last group have missed an exchange: they form no group by themselves, unless all of the last group have left.
///
/// ```
/// use std::thread;
/// use std::time::Duration;
/// use wgpu_optim::distributed::{Communicator, ThreadQuorum};
///
/// let quorum = ThreadQuorum::new(Duration::from_secs(10));
/// let members = [quorum.join(), quorum.join()];
/// thread::scope(|scope| {
///     for member in members {
///         scope.spawn(move || assert_eq!(member.group().size(), 2));
///     }
/// });
/// ```
#[derive(Debug, Clone)]
pub struct ThreadQuorum(Arc<Quorum>);

/// A thread's place in a [`ThreadQuorum`]. Dropping it leaves.
#[derive(Debug)]
pub struct QuorumMember {
    quorum: Arc<Quorum>,
    id: u64,
}

#[derive(Debug)]
struct Quorum {
    patience: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Members that have joined, the next one's id.
    joined: u64,
    members: BTreeSet<u64>,
    /// Members of the last group that have not left since.
    current: BTreeSet<u64>,
    /// Members that wait for a group.
    waiting: BTreeSet<u64>,
    /// When the first of `current` began to wait.
    since: Option<Instant>,
    /// The communicators of members whose group has formed.
    formed: BTreeMap<u64, ThreadCommunicator>,
}

impl ThreadQuorum {
    /// Members wait for others at most so long once one that is up to date waits.
    pub fn new(patience: Duration) -> Self {
        Self(Arc::new(Quorum { patience, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Adds a member. Groups wait for it from now on.
    pub fn join(&self) -> QuorumMember {
        let mut state = self.0.lock();
        let id = state.joined;
        state.joined += 1;
        state.members.insert(id);
        QuorumMember { quorum: Arc::clone(&self.0), id }
    }
}

impl QuorumMember {
    /// Waits for a group that this member is in. Ranks are in the order of joining.
    pub fn group(&self) -> ThreadCommunicator {
        let Quorum { patience, changed, .. } = &*self.quorum;
        let mut state = self.quorum.lock();
        state.waiting.insert(self.id);
        // Those that missed an exchange wait for this member without a limit.
        changed.notify_all();
        loop {
            if state.form_if_ready(*patience) {
                changed.notify_all();
            }
            if let Some(communicator) = state.formed.remove(&self.id) {
                return communicator;
            }
            let waits = match state.since {
                Some(since) => {
                    let left = patience.saturating_sub(since.elapsed());
                    changed.wait_timeout(state, left).map(|(state, _)| state).map_err(|error| error.into_inner().0)
                }
                None => changed.wait(state).map_err(PoisonError::into_inner),
            };
            state = waits.unwrap_or_else(|state| state);
        }
    }
}

impl State {
    /// Forms a group of all that wait. Returns whether it did.
    fn form_if_ready(&mut self, patience: Duration) -> bool {
        let is_up_to_date = self.current.is_empty() || !self.current.is_disjoint(&self.waiting);
        if self.waiting.is_empty() || !is_up_to_date {
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.waiting != self.members && since.elapsed() < patience {
            return false;
        }
        self.since = None;
        self.current = std::mem::take(&mut self.waiting);
        let group = ThreadCommunicator::group(self.current.len());
        self.formed.extend(self.current.iter().copied().zip(group));
        true
    }
}

impl Quorum {
    /// A panic while the lock is held leaves no half-written state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for QuorumMember {
    fn drop(&mut self) {
        let mut state = self.quorum.lock();
        state.members.remove(&self.id);
        state.current.remove(&self.id);
        self.quorum.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::distributed::Communicator;

    const LONG: Duration = Duration::from_secs(60);

    /// Rank and size of the next group of each member.
    fn groups(members: &[&QuorumMember]) -> Vec<(usize, usize)> {
        thread::scope(|scope| {
            let place = |member: &QuorumMember| {
                let group = member.group();
                (group.rank(), group.size())
            };
            let threads: Vec<_> = members.iter().map(|member| scope.spawn(move || place(member))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_members_form_a_group_at_once() {
        let quorum = ThreadQuorum::new(LONG);
        let members = [quorum.join(), quorum.join(), quorum.join()];
        let begin = Instant::now();
        let [a, b, c] = &members;
        assert_eq!(groups(&[c, a, b]), [(2, 3), (0, 3), (1, 3)]);
        assert_eq!(groups(&[a, b, c]), [(0, 3), (1, 3), (2, 3)]);
        assert!(begin.elapsed() < LONG / 2);
    }

    #[test]
    fn a_group_waits_for_no_member_that_has_left() {
        let quorum = ThreadQuorum::new(LONG);
        let (a, b, c) = (quorum.join(), quorum.join(), quorum.join());
        drop(b);
        assert_eq!(groups(&[&a, &c]), [(0, 2), (1, 2)]);
        // One leaves while the other waits.
        thread::scope(|scope| {
            let waits = scope.spawn(|| a.group().size());
            thread::sleep(Duration::from_millis(50));
            drop(c);
            assert_eq!(waits.join().unwrap(), 1);
        });
        let d = quorum.join();
        assert_eq!(groups(&[&a, &d]), [(0, 2), (1, 2)]);
    }

    /// The late member waits for one that was in the last group, and forms none by itself.
    #[test]
    fn a_late_member_is_left_out_and_waits_for_the_others() {
        let quorum = ThreadQuorum::new(Duration::from_millis(100));
        let (on_time, late) = (quorum.join(), quorum.join());
        assert_eq!(on_time.group().size(), 1);
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let late = &late;
            scope.spawn(move || sender.send(late.group().size()).unwrap());
            assert_eq!(receiver.recv_timeout(Duration::from_millis(400)), Err(mpsc::RecvTimeoutError::Timeout));
            assert_eq!(on_time.group().size(), 2);
            assert_eq!(receiver.recv(), Ok(2));
        });
    }

    #[test]
    fn those_left_behind_go_on_when_all_others_have_left() {
        let quorum = ThreadQuorum::new(Duration::from_millis(100));
        let (on_time, late) = (quorum.join(), quorum.join());
        assert_eq!(on_time.group().size(), 1);
        thread::scope(|scope| {
            let waits = scope.spawn(|| late.group().size());
            thread::sleep(Duration::from_millis(50));
            drop(on_time);
            assert_eq!(waits.join().unwrap(), 1);
        });
    }
}
