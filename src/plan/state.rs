use std::sync::Arc;

use super::StepPlan;
use crate::{Error, Schedule};

/// The part of a [`StepPlan`] that steps and setters change. Everything else that the next step depends on lies in the
/// engines' buffers: see `CpuState` and `Resources::persistent_buffers`.
#[derive(Debug, Clone)]
pub(crate) struct PlanState {
    /// Identity of the optimizer.
    owner: Arc<()>,
    pub(crate) schedule: Schedule,
    /// The momentum that the schedule set last: `set_lr` replaces a schedule, but not its momentum.
    pub(crate) momentum: Option<f64>,
    /// Whether a gradient scale was ever set: then every step checks for non-finite gradients.
    pub(crate) is_scaled: bool,
    pub(crate) grad_scale: f32,
    /// Steps recorded so far: the position in the schedule.
    pub(crate) recorded: u64,
    /// Whether the program gave the states.
    pub(crate) has_given_states: bool,
    /// Whether the parameters are those for evaluation; steps are refused then.
    pub(crate) evaluating: bool,
    pub(crate) versions: Versions,
}

/// Numbers of the calls that set parts of a [`PlanState`] last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Versions {
    /// The last number that was given.
    last: u64,
    pub(crate) schedule: u64,
    /// The momentum. Steps change it with the schedule and do not set it.
    pub(crate) momentum: u64,
    /// The gradient scale.
    pub(crate) scale: u64,
    /// The position in the schedule, and whether states were given. Steps advance the position and do not set it.
    pub(crate) position: u64,
    pub(crate) evaluating: u64,
}

impl PlanState {
    pub(super) fn new(schedule: Schedule, momentum: Option<f64>) -> Self {
        Self {
            owner: Arc::default(),
            schedule,
            momentum,
            is_scaled: false,
            grad_scale: 1.0,
            recorded: 0,
            has_given_states: false,
            evaluating: false,
            versions: Versions::default(),
        }
    }

    /// A number for the next call.
    fn next_version(&mut self) -> u64 {
        self.versions.last += 1;
        self.versions.last
    }

    pub(crate) fn set_schedule(&mut self, schedule: Schedule) {
        self.schedule = schedule;
        self.versions.schedule = self.next_version();
    }

    pub(crate) fn set_grad_scale(&mut self, scale: f32) {
        self.grad_scale = scale;
        self.is_scaled = true;
        self.versions.scale = self.next_version();
    }

    pub(crate) fn set_applied_steps(&mut self, steps: u64) {
        self.recorded = steps;
        self.has_given_states = true;
        self.versions.position = self.next_version();
    }

    pub(crate) fn set_evaluating(&mut self, evaluating: bool) {
        self.evaluating = evaluating;
        self.versions.evaluating = self.next_version();
    }

    /// Undoes a call that changed the state from `before` to `after`. What a later call set stays; steps recorded since
    /// still count.
    pub(crate) fn undo(&mut self, before: &Self, after: &Self) {
        let (now, set, old) = (self.versions, after.versions, before.versions);
        if set.schedule != old.schedule && now.schedule == set.schedule {
            self.schedule.clone_from(&before.schedule);
            self.versions.schedule = old.schedule;
        }
        if set.momentum != old.momentum && now.momentum == set.momentum {
            self.momentum = before.momentum;
            self.versions.momentum = old.momentum;
        }
        if set.scale != old.scale && now.scale == set.scale {
            (self.is_scaled, self.grad_scale) = (before.is_scaled, before.grad_scale);
            self.versions.scale = old.scale;
        }
        if set.position != old.position && now.position == set.position {
            self.recorded = before.recorded + (self.recorded - after.recorded);
            self.has_given_states = before.has_given_states;
            self.versions.position = old.position;
        }
        if set.evaluating != old.evaluating && now.evaluating == set.evaluating {
            self.evaluating = before.evaluating;
            self.versions.evaluating = old.evaluating;
        }
    }
}

impl StepPlan {
    /// Refuses the state of another optimizer.
    pub(crate) fn check_own(&self, state: &PlanState) -> Result<(), Error> {
        if Arc::ptr_eq(&self.state.owner, &state.owner) { Ok(()) } else { Err(Error::ForeignSnapshot) }
    }

    /// Restores the state of a snapshot, as one call that sets everything.
    ///
    /// # Errors
    /// None for a state of this optimizer: its momentum was valid before.
    pub(crate) fn restore(&mut self, state: &PlanState) -> Result<(), Error> {
        let mut restored = PlanState { versions: self.state.versions, ..state.clone() };
        let version = restored.next_version();
        restored.versions = Versions {
            last: version,
            schedule: version,
            momentum: version,
            scale: version,
            position: version,
            evaluating: version,
        };
        self.set_state(restored)
    }

    /// # Errors
    /// As for [`StepPlan::restore`].
    pub(crate) fn set_state(&mut self, state: PlanState) -> Result<(), Error> {
        if let Some(momentum) = state.momentum {
            self.rule = self.rule.with_cycled_momentum(momentum)?;
        }
        self.state = state;
        Ok(())
    }
}
