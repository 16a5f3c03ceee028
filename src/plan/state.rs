use std::ops::Deref;
use std::sync::Arc;

use super::StepPlan;
#[cfg(feature = "safetensors")]
use super::checks::{check_grad_scale, check_momentum};
use crate::error::check;
#[cfg(feature = "safetensors")]
use crate::rule;
#[cfg(feature = "safetensors")]
use crate::transform::EVAL;
use crate::{Error, Schedule};

/// The part of a [`StepPlan`] that steps and setters change. Everything else that the next step depends on lies in the
/// engines' buffers: see `CpuState` and `Resources::persistent_buffers`.
#[derive(Debug, Clone)]
pub(crate) struct PlanState {
    /// Identity of the optimizer.
    owner: Arc<()>,
    /// Number of the last call that set something.
    last_call: u64,
    pub(crate) schedule: Setting<Schedule>,
    /// The momentum that the schedule set last: `set_lr` replaces a schedule, but not its momentum.
    momentum: Setting<Option<f64>>,
    /// The gradient scale, once one was set: every step checks for non-finite gradients then.
    pub(crate) grad_scale: Setting<Option<HostScale>>,
    /// Steps recorded so far: the position in the schedule.
    pub(crate) recorded: u64,
    /// Whether the program gave the states. It gives the position with them.
    pub(crate) has_given_states: Setting<bool>,
    pub(crate) mode: Setting<Mode>,
}

/// The parameters in the place of the training parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub(crate) enum Mode {
    /// The training parameters themselves.
    Training,
    /// Parameters for evaluation. Steps are refused.
    Evaluation,
    /// Parameters for the second gradient of SAM. A step starts from the training parameters.
    Perturbed,
}

impl Mode {
    /// Refuses calls that need training parameters.
    pub(crate) fn check_training(self, call: &'static str) -> Result<(), Error> {
        match self {
            Self::Training => Ok(()),
            Self::Evaluation => Err(Error::EvaluationMode { call }),
            Self::Perturbed => Err(Error::Perturbed { call }),
        }
    }
}

/// The gradient scale, as far as the host knows it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub(crate) enum HostScale {
    Value(f32),
    /// A buffer on the device holds it.
    Buffer,
}

/// The part of a [`PlanState`] that a checkpoint holds.
#[cfg(feature = "safetensors")]
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SavedPlanState {
    /// `None` for a schedule with a function.
    pub(crate) schedule: Option<Schedule>,
    #[serde(with = "crate::number")]
    pub(crate) momentum: Option<f64>,
    pub(crate) grad_scale: Option<HostScale>,
    pub(crate) recorded: u64,
    has_given_states: bool,
    pub(crate) mode: Mode,
}

/// A value, and the number of the call that set it.
#[derive(Debug, Clone)]
pub(crate) struct Setting<T> {
    value: T,
    call: u64,
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Clone> Setting<T> {
    fn new(value: T) -> Self {
        Self { value, call: 0 }
    }

    /// Whether one call set both.
    pub(crate) fn is_of_call(&self, other: &Self) -> bool {
        self.call == other.call
    }

    /// Undoes the call between `before` and `after`, if it set the value and no later call did. Returns whether it did.
    fn undo(&mut self, before: &Self, after: &Self) -> bool {
        let undoes = !after.is_of_call(before) && self.is_of_call(after);
        if undoes {
            self.clone_from(before);
        }
        undoes
    }
}

impl PlanState {
    pub(super) fn new(schedule: Schedule, momentum: Option<f64>) -> Self {
        Self {
            owner: Arc::default(),
            last_call: 0,
            schedule: Setting::new(schedule),
            momentum: Setting::new(momentum),
            grad_scale: Setting::new(None),
            recorded: 0,
            has_given_states: Setting::new(false),
            mode: Setting::new(Mode::Training),
        }
    }

    /// The learning rate of the next step.
    pub(crate) fn lr(&self) -> Result<f64, Error> {
        self.schedule.value(self.recorded)
    }

    pub(crate) fn momentum(&self) -> Option<f64> {
        *self.momentum
    }

    /// Follows the schedule, which is no call.
    pub(super) fn follow_momentum(&mut self, momentum: f64) {
        self.momentum.value = Some(momentum);
    }

    fn setting<T>(&mut self, value: T) -> Setting<T> {
        self.last_call += 1;
        Setting { value, call: self.last_call }
    }

    pub(super) fn set_schedule(&mut self, schedule: Schedule) {
        self.schedule = self.setting(schedule);
    }

    pub(super) fn set_grad_scale(&mut self, scale: HostScale) {
        self.grad_scale = self.setting(Some(scale));
    }

    pub(super) fn set_applied_steps(&mut self, steps: u64) {
        self.recorded = steps;
        self.has_given_states = self.setting(true);
    }

    pub(crate) fn set_mode(&mut self, mode: Mode) {
        self.mode = self.setting(mode);
    }

    /// Undoes a call that changed the state from `before` to `after`. What a later call set stays; steps recorded since
    /// still count.
    pub(crate) fn undo(&mut self, before: &Self, after: &Self) {
        self.schedule.undo(&before.schedule, &after.schedule);
        self.momentum.undo(&before.momentum, &after.momentum);
        self.grad_scale.undo(&before.grad_scale, &after.grad_scale);
        self.mode.undo(&before.mode, &after.mode);
        if self.has_given_states.undo(&before.has_given_states, &after.has_given_states) {
            self.recorded = before.recorded + (self.recorded - after.recorded);
        }
    }

    #[cfg(feature = "safetensors")]
    pub(crate) fn saved(&self) -> SavedPlanState {
        let Self { owner: _, last_call: _, schedule, momentum, grad_scale, recorded, has_given_states, mode } = self;
        SavedPlanState {
            schedule: serde_json::to_value(&schedule.value).is_ok().then(|| schedule.value.clone()),
            momentum: **momentum,
            grad_scale: **grad_scale,
            recorded: *recorded,
            has_given_states: **has_given_states,
            mode: **mode,
        }
    }

    /// The state of a snapshot, set by one call to an optimizer with this state.
    fn restored(&self, state: &Self) -> Self {
        let call = self.last_call + 1;
        let mut state = state.clone();
        state.last_call = call;
        state.schedule.call = call;
        state.momentum.call = call;
        state.grad_scale.call = call;
        state.has_given_states.call = call;
        state.mode.call = call;
        state
    }
}

impl StepPlan {
    /// The counts of skipped steps, all and in a row, as the control block holds them.
    pub(crate) fn check_skipped_steps(skipped: u64, consecutive: u64) -> Result<[u32; 2], Error> {
        check(u32::try_from(skipped).is_ok(), "optimizer", "skipped_steps", skipped as f64, "0 to 4294967295")?;
        let allowed = "at most skipped_steps";
        check(consecutive <= skipped, "optimizer", "consecutive_skipped_steps", consecutive as f64, allowed)?;
        Ok([skipped as u32, consecutive as u32])
    }

    /// Refuses the state of another optimizer.
    pub(crate) fn check_own(&self, state: &PlanState) -> Result<(), Error> {
        if Arc::ptr_eq(&self.state.owner, &state.owner) { Ok(()) } else { Err(Error::ForeignSnapshot) }
    }

    /// The state of a checkpoint, for this optimizer.
    ///
    /// # Errors
    /// Those of the schedule, of the gradient scale, of [`Optimizer::eval`](crate::Optimizer::eval) and of
    /// [`Optimizer::perturb`](crate::Optimizer::perturb): a file may hold them altered.
    #[cfg(feature = "safetensors")]
    pub(crate) fn loaded_state(&self, saved: &SavedPlanState, keeps_schedule: bool) -> Result<PlanState, Error> {
        let mut state = self.state.clone();
        if let Some(schedule) = saved.schedule.as_ref().filter(|_| !keeps_schedule) {
            schedule.validate()?;
            state.schedule.value.clone_from(schedule);
            // A file may hold a schedule that cycles the momentum, and no momentum.
            state.momentum.value = saved.momentum.or(schedule.momentum_value(0)?);
        }
        if state.momentum.is_some() != self.cycles_momentum() {
            let (what, with) = ("a checkpoint whose schedule cycles the momentum", "a schedule that does not");
            let (what, with) = if self.cycles_momentum() { (with, what) } else { (what, with) };
            return Err(Error::Unsupported {
                what: what.to_owned(),
                with: with.to_owned(),
                remedy: "build the optimizer with such a schedule or from the checkpoint, or call `keep_schedule` on the \
                         options of loading",
            });
        }
        state.grad_scale.value = match (*state.grad_scale, saved.grad_scale) {
            // A buffer that is bound stays bound; no file holds one.
            (Some(HostScale::Buffer), _) => Some(HostScale::Buffer),
            (_, Some(HostScale::Buffer)) => Some(HostScale::Value(1.0)),
            (_, saved) => saved,
        };
        if let Some(HostScale::Value(scale)) = *state.grad_scale {
            check_grad_scale(scale)?;
        }
        match saved.mode {
            Mode::Training => {}
            Mode::Evaluation => drop(self.auxiliary(EVAL)?),
            Mode::Perturbed => drop(self.sam()?),
        }
        state.recorded = saved.recorded;
        state.has_given_states.value = saved.has_given_states;
        state.mode.value = saved.mode;
        if let Some(momentum) = state.momentum() {
            check_momentum(momentum)?;
            rule::validate(self.rule.with_cycled_momentum(momentum)?.rule())?;
        }
        Ok(state)
    }

    /// Restores the state of a snapshot.
    ///
    /// # Errors
    /// None for a state of this optimizer: its momentum was valid before.
    pub(crate) fn restore(&mut self, state: &PlanState) -> Result<(), Error> {
        self.set_state(self.state.restored(state))
    }

    /// # Errors
    /// As for [`StepPlan::restore`].
    pub(crate) fn set_state(&mut self, state: PlanState) -> Result<(), Error> {
        if let Some(momentum) = state.momentum() {
            self.rule = self.rule.with_cycled_momentum(momentum)?;
        }
        self.state = state;
        Ok(())
    }
}
