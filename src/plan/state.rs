//! What the host changes from step to step.

use std::sync::Arc;

use super::Plan;
use crate::{Error, Schedule};

/// All of a [`Plan`] that steps and setters change, and whose it is. The rule and the groups' learning rates follow from it.
#[derive(Debug, Clone)]
pub(crate) struct PlanState {
    owner: Arc<()>,
    schedule: Schedule,
    scaled: bool,
    grad_scale: f32,
    recorded: u64,
    pub(crate) evaluating: bool,
}

impl Plan {
    pub(crate) fn state(&self) -> PlanState {
        PlanState {
            owner: self.owner.clone(),
            schedule: self.schedule.clone(),
            scaled: self.scaled,
            grad_scale: self.grad_scale,
            recorded: self.recorded,
            evaluating: self.evaluating,
        }
    }

    /// Refuses the state of another optimizer.
    pub(crate) fn check_own(&self, state: &PlanState) -> Result<(), Error> {
        if Arc::ptr_eq(&self.owner, &state.owner) { Ok(()) } else { Err(Error::ForeignSnapshot) }
    }

    pub(crate) fn set_state(&mut self, state: &PlanState) {
        let PlanState { owner: _, schedule, scaled, grad_scale, recorded, evaluating } = state.clone();
        self.schedule = schedule;
        self.scaled = scaled;
        self.grad_scale = grad_scale;
        self.recorded = recorded;
        self.evaluating = evaluating;
    }
}
