//! Checks of the slices and counts that a call of a communicator is given.

use super::CommunicationError;

/// `what` has as many elements as the counts say.
pub(super) fn check(
    call: &'static str,
    what: &'static str,
    actual: usize,
    expected: usize,
) -> Result<(), CommunicationError> {
    if actual == expected { Ok(()) } else { Err(CommunicationError::Length { call, what, expected, actual }) }
}

/// There is a count for each rank.
pub(super) fn check_counts(call: &'static str, counts: &[usize], size: usize) -> Result<(), CommunicationError> {
    check(call, "the list of counts", counts.len(), size)
}
