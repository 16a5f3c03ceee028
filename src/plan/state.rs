use std::sync::Arc;

use super::StepPlan;
use crate::transform::TransformedRule;
use crate::{Error, Schedule};

/// The fields of a [`StepPlan`] that steps and setters change. The groups' learning rates are computed from them.
#[derive(Debug, Clone)]
pub(crate) struct PlanState {
    owner: Arc<()>,
    /// The rule, with its current momentum: `set_lr` replaces a schedule, but keeps the momentum that it set.
    rule: TransformedRule,
    schedule: Schedule,
    is_scaled: bool,
    grad_scale: f32,
    recorded: u64,
    pub(crate) evaluating: bool,
}

impl StepPlan {
    pub(crate) fn state(&self) -> PlanState {
        PlanState {
            owner: self.owner.clone(),
            rule: self.rule.clone(),
            schedule: self.schedule.clone(),
            is_scaled: self.is_scaled,
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
        let PlanState { owner: _, rule, schedule, is_scaled, grad_scale, recorded, evaluating } = state.clone();
        self.rule = rule;
        self.schedule = schedule;
        self.is_scaled = is_scaled;
        self.grad_scale = grad_scale;
        self.recorded = recorded;
        self.evaluating = evaluating;
    }
}
