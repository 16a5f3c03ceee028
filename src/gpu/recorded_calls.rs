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

    /// Forgets the calls that were submitted or dropped.
    pub(crate) fn retain_pending(&mut self) {
        self.0.retain(|call| call.submission.is_pending());
    }
}

impl RecordedCall {
    fn undo(&self, state: &mut HostState) {
        state.plan.undo(&self.before.plan, &self.after.plan);
        // The scale and its buffer are set together.
        if state.plan.grad_scale.is_of_call(&self.before.plan.grad_scale) {
            state.grad_scale.clone_from(&self.before.grad_scale);
        }
    }
}
