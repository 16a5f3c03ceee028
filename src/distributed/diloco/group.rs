//! Which ranks take part in an exchange, and the state for those that are behind.

use crate::distributed::{CommunicationError, Communicator, DistributedError};

/// The report of each rank to the others before an exchange.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Report {
    /// Exchanges completed.
    pub(super) exchanges: u64,
    /// Steps counted.
    pub(super) steps: u64,
    /// The fragment that is due; no fragment has the number `u64::MAX`.
    pub(super) fragment: u64,
    /// 1 if the rank waits for the state of the others.
    pub(super) joins: u64,
}

/// The reports of all ranks.
///
/// # Errors
/// [`CommunicationError`].
pub(super) fn gather_reports(
    communicator: &mut (impl Communicator + ?Sized),
    own: Report,
) -> Result<Vec<Report>, CommunicationError> {
    let size = communicator.size();
    let mut bytes = vec![0; size * size_of::<Report>()];
    communicator.all_gather(bytemuck::bytes_of(&own), &vec![size_of::<Report>(); size], &mut bytes)?;
    Ok(bytemuck::pod_collect_to_vec(&bytes))
}

/// Whether each rank takes part: those that have missed no exchange.
///
/// # Errors
/// [`DistributedError::Disagreement`], [`DistributedError::NoState`].
pub(super) fn take_part(reports: &[Report], own: Report) -> Result<Vec<bool>, DistributedError> {
    let newest = reports.iter().filter(|report| report.joins == 0).map(|report| report.exchanges).max();
    let newest = newest.ok_or(DistributedError::NoState)?;
    let takes_part = |report: &Report| report.joins == 0 && report.exchanges == newest;
    for (rank, report) in reports.iter().enumerate().filter(|(_, report)| takes_part(report)) {
        let first = reports.iter().find(|report| takes_part(report)).unwrap_or(&own);
        if report != first {
            return Err(DistributedError::Disagreement { rank, steps: report.steps, others: first.steps });
        }
    }
    Ok(reports.iter().map(takes_part).collect())
}

/// Sends the state of rank `source` to those that do not take part. Returns it to them.
///
/// # Errors
/// [`CommunicationError`].
pub(super) fn send_state(
    communicator: &mut (impl Communicator + ?Sized),
    source: usize,
    takes_part: &[bool],
    state: &[u8],
) -> Result<Option<Vec<u8>>, CommunicationError> {
    let (rank, size) = (communicator.rank(), communicator.size());
    let mut len = (state.len() as u64).to_ne_bytes();
    communicator.broadcast(source, &mut len)?;
    let len = u64::from_ne_bytes(len) as usize;
    let receives = |to: usize| if takes_part[to] { 0 } else { len };
    let send_counts: Vec<usize> = (0..size).map(|to| if rank == source { receives(to) } else { 0 }).collect();
    let receive_counts: Vec<usize> = (0..size).map(|from| if from == source { receives(rank) } else { 0 }).collect();
    let copies = takes_part.iter().filter(|&&takes_part| rank == source && !takes_part).count();
    let mut received = vec![0; receives(rank)];
    communicator.all_to_all(&state.repeat(copies), &send_counts, &mut received, &receive_counts)?;
    Ok((!takes_part[rank]).then_some(received))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(exchanges: u64, steps: u64, joins: u64) -> Report {
        Report { exchanges, steps, fragment: 0, joins }
    }

    #[test]
    fn ranks_with_the_most_exchanges_take_part() {
        let reports = [report(2, 40, 0), report(3, 60, 0), report(0, 0, 1), report(9, 90, 1), report(3, 60, 0)];
        assert_eq!(take_part(&reports, reports[0]).unwrap(), [false, true, false, false, true]);
    }

    #[test]
    fn ranks_that_count_other_steps_are_refused() {
        let reports = [report(3, 60, 0), report(3, 61, 0)];
        let error = take_part(&reports, reports[0]).unwrap_err();
        assert!(matches!(error, DistributedError::Disagreement { rank: 1, steps: 61, others: 60 }), "{error:?}");
    }

    #[test]
    fn a_group_in_which_all_join_has_no_state() {
        let error = take_part(&[report(0, 0, 1); 2], report(0, 0, 1)).unwrap_err();
        assert!(matches!(error, DistributedError::NoState), "{error:?}");
    }
}
