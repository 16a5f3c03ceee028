//! Undoes calls whose encoder was dropped: a dropped call is a call not made.

use wgpu::CommandEncoder;

use super::Optimizer;
use crate::Error;
use crate::gpu::{HostState, Submission};
use crate::plan::Mode;

impl Optimizer {
    /// The host's state without the effects of dropped calls.
    pub(super) fn host_state(&self) -> HostState {
        let mut state = self.recorded_state();
        self.calls.undo_dropped(&mut state);
        state
    }

    /// The host's state with the effects of all recorded calls.
    fn recorded_state(&self) -> HostState {
        HostState { plan: self.plan.state.clone(), grad_scale: self.grad_scale.clone() }
    }

    pub(super) fn set_host_state(&mut self, state: HostState) -> Result<(), Error> {
        self.plan.set_state(state.plan)?;
        self.grad_scale = state.grad_scale;
        Ok(())
    }

    /// Undoes dropped calls. Every call that reads or sets the host's state begins with it.
    pub(super) fn undo_dropped_calls(&mut self) -> Result<(), Error> {
        if self.calls.is_empty() {
            return Ok(());
        }
        let mut state = self.recorded_state();
        if self.calls.settle(&mut state) { self.set_host_state(state) } else { Ok(()) }
    }

    /// Remembers a call that was recorded into `encoder` and has changed the host's state since `before`. A restoration
    /// depends on the submission of its snapshot, too.
    pub(super) fn remember_call(&mut self, encoder: &CommandEncoder, snapshot: Option<&Submission>, before: HostState) {
        self.calls.push(encoder, snapshot, before, self.recorded_state());
    }

    /// True if others may have the place of the training parameters: the encoder that restored them may yet be dropped.
    pub(super) fn may_be_replaced(&self) -> bool {
        *self.plan.state.mode != Mode::Training || self.calls.may_replace_params()
    }
}
