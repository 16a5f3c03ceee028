use wgpu::{Buffer, CommandEncoder};

use super::submission::Submission;
use crate::plan::PlanState;

/// The host's part of an optimizer's state.
#[derive(Debug, Clone)]
pub(crate) struct HostState {
    pub(crate) plan: PlanState,
    pub(crate) grad_scale: Buffer,
}

/// A recorded call that changed the host's state.
#[derive(Debug)]
struct RecordedCall {
    submission: Submission,
    before: HostState,
    after: HostState,
}

/// The recorded calls that changed the host's state and may yet be dropped, in their order.
#[derive(Debug, Default)]
pub(crate) struct RecordedCalls(Vec<RecordedCall>);

impl RecordedCalls {
    pub(crate) fn push(&mut self, encoder: &CommandEncoder, before: HostState, after: HostState) {
        self.0.push(RecordedCall { submission: Submission::of(encoder), before, after });
    }

    pub(crate) fn any_dropped(&self) -> bool {
        self.0.iter().any(|call| call.submission.was_dropped())
    }

    /// Undoes the dropped calls in `state`, the last first: each changed the state that the one before it left.
    pub(crate) fn undo_dropped(&self, state: &mut HostState) {
        self.0.iter().rev().filter(|call| call.submission.was_dropped()).for_each(|call| call.undo(state));
    }

    /// Changes the state around calls that may yet be dropped: what the program sets after a call outlasts it.
    pub(crate) fn set(&mut self, set: impl Fn(&mut HostState)) {
        for RecordedCall { before, after, .. } in &mut self.0 {
            set(before);
            set(after);
        }
    }

    /// Forgets the calls that were submitted or dropped.
    pub(crate) fn retain_pending(&mut self) {
        self.0.retain(|call| call.submission.is_pending());
    }
}

impl RecordedCall {
    /// Undoes the call. A field that a later call changed keeps its value; steps recorded since still count.
    fn undo(&self, state: &mut HostState) {
        fn revert<T: PartialEq + Clone>(now: &mut T, before: &T, after: &T) {
            if now == after {
                now.clone_from(before);
            }
        }
        revert(&mut state.grad_scale, &self.before.grad_scale, &self.after.grad_scale);
        let (now, before, after) = (&mut state.plan, &self.before.plan, &self.after.plan);
        revert(&mut now.schedule, &before.schedule, &after.schedule);
        revert(&mut now.momentum, &before.momentum, &after.momentum);
        revert(&mut now.is_scaled, &before.is_scaled, &after.is_scaled);
        revert(&mut now.grad_scale, &before.grad_scale, &after.grad_scale);
        revert(&mut now.has_given_states, &before.has_given_states, &after.has_given_states);
        revert(&mut now.evaluating, &before.evaluating, &after.evaluating);
        now.recorded = before.recorded + now.recorded.saturating_sub(after.recorded);
    }
}
