use wgpu::{Buffer, CommandEncoder};

use super::submission::Submission;
use crate::plan::{Mode, PlanState};

/// The host's part of an optimizer's state.
#[derive(Debug, Clone)]
pub(crate) struct HostState {
    pub(crate) plan: PlanState,
    pub(crate) grad_scale: Buffer,
}

/// A recorded call that changed the host's state.
#[derive(Debug, Clone)]
struct RecordedCall {
    submission: Submission,
    /// Submission of the restored snapshot: without it the call changes nothing either.
    snapshot: Option<Submission>,
    before: HostState,
    after: HostState,
}

/// The recorded calls that changed the host's state and may yet be dropped, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecordedCalls(Vec<RecordedCall>);

impl RecordedCalls {
    pub(crate) fn push(
        &mut self,
        encoder: &CommandEncoder,
        snapshot: Option<&Submission>,
        before: HostState,
        after: HostState,
    ) {
        let (submission, snapshot) = (Submission::of(encoder), snapshot.cloned());
        self.0.push(RecordedCall { submission, snapshot, before, after });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if a drop may leave others in the place of the training parameters.
    pub(crate) fn may_replace_params(&self) -> bool {
        self.0.iter().any(|call| *call.before.plan.mode != Mode::Training)
    }

    /// Undoes the dropped calls in `state`, the last first: each changed the state that the one before it left.
    pub(crate) fn undo_dropped(&self, state: &mut HostState) {
        self.0.iter().rev().filter(|call| call.was_dropped()).for_each(|call| call.undo(state));
    }

    /// Forgets the calls that were submitted or dropped. Undoes the dropped ones in `state`, and in the states around later
    /// calls. Returns whether there was one.
    pub(crate) fn settle(&mut self, state: &mut HostState) -> bool {
        let mut any_dropped = false;
        for number in (0..self.0.len()).rev() {
            // In this order: a call that is no longer pending has its fate.
            let is_pending = self.0[number].is_pending();
            let was_dropped = self.0[number].was_dropped();
            if is_pending && !was_dropped {
                continue;
            }
            let call = self.0.remove(number);
            if was_dropped {
                any_dropped = true;
                call.undo(state);
                let later = self.0[number..].iter_mut().flat_map(|later| [&mut later.before, &mut later.after]);
                later.for_each(|state| call.undo(state));
            }
        }
        any_dropped
    }
}

impl RecordedCall {
    fn submissions(&self) -> impl Iterator<Item = &Submission> {
        [&self.submission].into_iter().chain(&self.snapshot)
    }

    fn was_dropped(&self) -> bool {
        self.submissions().any(Submission::was_dropped)
    }

    fn is_pending(&self) -> bool {
        self.submissions().any(Submission::is_pending)
    }

    fn undo(&self, state: &mut HostState) {
        state.plan.undo(&self.before.plan, &self.after.plan);
        // The scale and its buffer are set together.
        if state.plan.grad_scale.is_of_call(&self.before.plan.grad_scale) {
            state.grad_scale.clone_from(&self.before.grad_scale);
        }
    }
}
