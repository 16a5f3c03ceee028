use std::sync::Arc;

use super::StepPlan;
use crate::{Error, Schedule};

/// The fields of a [`StepPlan`] that steps and setters change. Everything else that the next step depends on lies in the
/// engines' buffers: see `CpuState` and `Resources::persistent_buffers`.
#[derive(Debug, Clone)]
pub(crate) struct PlanState {
    owner: Arc<()>,
    pub(crate) schedule: Schedule,
    /// The momentum that the schedule set last: `set_lr` replaces a schedule, but not its momentum.
    pub(crate) momentum: Option<f64>,
    pub(crate) is_scaled: bool,
    pub(crate) grad_scale: f32,
    pub(crate) recorded: u64,
    pub(crate) has_given_states: bool,
    pub(crate) evaluating: bool,
}

impl StepPlan {
    pub(crate) fn state(&self) -> PlanState {
        PlanState {
            owner: self.owner.clone(),
            schedule: self.schedule.clone(),
            momentum: self.momentum,
            is_scaled: self.is_scaled,
            grad_scale: self.grad_scale,
            recorded: self.recorded,
            has_given_states: self.has_given_states,
            evaluating: self.evaluating,
        }
    }

    /// Copies the gradient scale alone.
    pub(crate) fn copy_grad_scale(&self, state: &mut PlanState) {
        (state.is_scaled, state.grad_scale) = (self.is_scaled, self.grad_scale);
    }

    /// Refuses the state of another optimizer.
    pub(crate) fn check_own(&self, state: &PlanState) -> Result<(), Error> {
        if Arc::ptr_eq(&self.owner, &state.owner) { Ok(()) } else { Err(Error::ForeignSnapshot) }
    }

    /// # Errors
    /// None for a state of this optimizer: its momentum was valid before.
    pub(crate) fn set_state(&mut self, state: &PlanState) -> Result<(), Error> {
        let PlanState { owner: _, schedule, momentum, is_scaled, grad_scale, recorded, has_given_states, evaluating } =
            state.clone();
        if let Some(momentum) = momentum {
            self.set_momentum(momentum)?;
        }
        self.schedule = schedule;
        self.is_scaled = is_scaled;
        self.grad_scale = grad_scale;
        self.recorded = recorded;
        self.has_given_states = has_given_states;
        self.evaluating = evaluating;
        Ok(())
    }
}
