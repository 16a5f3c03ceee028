//! The settings of an optimizer, checked, and the plan of its steps.

mod state;

use std::sync::Arc;

use crate::clip::ClipForm;
use crate::error::check;
use crate::factors::Factors;
use crate::gpu::shader;
use crate::groups::GroupTable;
use crate::kernels::control::{CLIP, EXACT, SKIP, STOP, SlotHead};
use crate::metrics::{HistoryOptions, Observer, Reader};
use crate::rule::{self, Rule};
use crate::segments::Segments;
use crate::transform::ClippedRule;
use crate::{Clip, Error, GroupOptions, Layout, NonFinite, Schedule};

pub(crate) use state::PlanState;

/// What a plan is made from.
#[derive(Debug, Clone)]
pub(crate) struct PlanSettings {
    pub(crate) rule: Arc<dyn Rule>,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) clip: Option<Clip>,
    pub(crate) nonfinite: Option<NonFinite>,
    pub(crate) max_consecutive_skips: u32,
    pub(crate) history: Option<HistoryOptions>,
    pub(crate) groups: Vec<(String, GroupOptions)>,
}

impl PlanSettings {
    pub(crate) fn new(rule: Arc<dyn Rule>) -> Self {
        Self {
            rule,
            schedule: None,
            clip: None,
            nonfinite: None,
            max_consecutive_skips: u32::MAX,
            history: None,
            groups: Vec::new(),
        }
    }
}

/// What both engines know of the steps to come, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rule: Arc<dyn Rule>,
    pub(crate) groups: GroupTable,
    /// What the rule's sums go over, if it has any.
    pub(crate) segments: Option<Segments>,
    /// What the rule keeps in place of a state per element, if it does.
    pub(crate) factors: Option<Factors>,
    /// Which steps are observed, if any are.
    pub(crate) observer: Option<Arc<Observer>>,
    pub(crate) len: usize,
    schedule: Schedule,
    /// Whether the schedule changes the rule's momentum from step to step.
    cycles: bool,
    clip: Option<Clip>,
    nonfinite: Option<NonFinite>,
    /// Whether a gradient scale was ever set: then the finite check belongs to the step.
    scaled: bool,
    grad_scale: f32,
    max_consecutive_skips: u32,
    pub(crate) recorded: u64,
    /// Whether the parameters are those for evaluation, and no step may be taken.
    pub(crate) evaluating: bool,
    /// Whose snapshots this plan takes back.
    owner: Arc<()>,
}

impl Plan {
    pub(crate) fn new(settings: &PlanSettings, layout: &Layout) -> Result<Self, Error> {
        let mut rule = settings.rule.clone();
        let limit = settings.max_consecutive_skips;
        check(limit > 0, "optimizer", "max_consecutive_skips", limit.into(), "1 or more")?;
        if let Some(history) = &settings.history {
            history.validate()?;
        }
        let schedule = settings.schedule.clone().unwrap_or_else(|| Schedule::constant(rule.lr()));
        schedule.validate()?;
        let momentum = schedule.momentum_value(0)?;
        if let Some(momentum) = momentum {
            rule = cycled(&*rule, momentum)?;
        }
        rule::validate(&*rule)?;
        if let Some(clip) = settings.clip {
            clip.validate()?;
        }
        let rule = match ClipForm::new(settings.clip).segments {
            Some(segments) => Arc::new(ClippedRule::new(rule, segments)?) as Arc<dyn Rule>,
            None => rule,
        };
        shader::check_interface(&*rule)?;
        let mut segments = Segments::of_rule(layout, &*rule);
        let groups = GroupTable::new(layout, &settings.groups, rule.weight_decay(), segments.as_ref())?;
        if let Some(segments) = &mut segments {
            segments.keep_live(&groups);
        }
        let mut factors = Factors::new(layout, &*rule)?;
        if let Some(factors) = &mut factors {
            factors.keep_live(layout, &groups);
        }
        let counts = rule.counts();
        let observe = |options| Observer::new(layout, &groups, options, counts).map(Arc::new);
        let observer = settings.history.as_ref().and_then(observe);
        let (clip, nonfinite, max_consecutive_skips) =
            (settings.clip, settings.nonfinite, settings.max_consecutive_skips);
        let len = layout.len();
        let (scaled, grad_scale, recorded, evaluating) = (false, 1.0, 0, false);
        Ok(Self {
            rule,
            groups,
            segments,
            factors,
            observer,
            len,
            schedule,
            cycles: momentum.is_some(),
            clip,
            nonfinite,
            scaled,
            grad_scale,
            max_consecutive_skips,
            recorded,
            evaluating,
            owner: Arc::default(),
        })
    }

    pub(crate) fn lr(&self) -> Result<f64, Error> {
        self.schedule.value(self.recorded)
    }

    /// One learning rate from the next recorded step on, in place of the schedule.
    pub(crate) fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        let schedule = Schedule::constant(lr);
        schedule.validate()?;
        self.schedule = schedule;
        Ok(())
    }

    pub(crate) fn set_grad_scale(&mut self, scale: f32) -> Result<(), Error> {
        let invertible = scale.is_normal() && scale > 0.0 && (1.0 / scale).is_normal();
        check(invertible, "gradient scale", "grad_scale", scale.into(), "positive, with a normal f32 inverse")?;
        self.grad_scale = scale;
        self.scaled = true;
        Ok(())
    }

    /// A gradient scale kept on the device takes the place of the value.
    pub(crate) fn set_device_grad_scale(&mut self) {
        self.grad_scale = 1.0;
        self.scaled = true;
    }

    /// Whether the step takes the norm whatever happens to gradients that are not finite.
    fn measures(&self) -> bool {
        self.segments.is_some() || self.clip.is_some_and(Clip::measures) || self.scaled
    }

    fn nonfinite(&self) -> NonFinite {
        self.nonfinite.unwrap_or(if self.measures() { NonFinite::Skip } else { NonFinite::Propagate })
    }

    pub(crate) fn clip(&self) -> ClipForm {
        ClipForm::new(self.clip)
    }

    /// Whether the step needs no look at all gradients before it writes. A bare one takes the bias corrections that the step
    /// before it left, with that step's betas.
    pub(crate) fn is_bare(&self) -> bool {
        let corrects = self.cycles && !self.rule.bias_corrected().is_empty();
        self.len > 0 && !self.measures() && self.nonfinite() == NonFinite::Propagate && !corrects
    }

    /// Whether the next step is observed.
    pub(crate) fn observes(&self) -> bool {
        self.observer.as_ref().is_some_and(|observer| observer.observes(self.recorded))
    }

    /// What makes statistics of what steps leave.
    pub(crate) fn reader(&self) -> Reader {
        Reader { max_consecutive_skips: self.max_consecutive_skips, observer: self.observer.clone() }
    }

    /// Whether the rule differs from step to step.
    pub(crate) fn cycles(&self) -> bool {
        self.cycles
    }

    /// Refuses what needs training parameters between `eval` and `train`.
    pub(crate) fn check_training(&self, call: &'static str) -> Result<(), Error> {
        if self.evaluating { Err(Error::EvaluationMode { call }) } else { Ok(()) }
    }

    /// The rule's pass of that name.
    pub(crate) fn pass(&self, pass: &str) -> Result<&'static str, Error> {
        let passes = self.rule.passes();
        passes.iter().copied().find(|&known| known == pass).ok_or_else(|| Error::UnknownPass {
            rule: self.rule.name().to_owned(),
            pass: pass.to_owned(),
            known: passes.iter().map(|&pass| pass.to_owned()).collect(),
        })
    }

    /// The scalars of the next step, which is counted as recorded.
    pub(crate) fn next_slot(&mut self) -> Result<SlotHead, Error> {
        let slot = self.slot(self.recorded)?;
        self.recorded += 1;
        Ok(slot)
    }

    /// The scalars of a pass: those of the next step, or where the schedule has ended, of the last.
    pub(crate) fn pass_slot(&mut self) -> Result<SlotHead, Error> {
        self.slot(self.recorded).or_else(|_| self.slot(self.recorded.saturating_sub(1)))
    }

    /// The scalars of a step, for which the rule and the groups' learning rates are made.
    fn slot(&mut self, step: u64) -> Result<SlotHead, Error> {
        let lr = self.schedule.value(step)? as f32;
        if let Some(momentum) = self.schedule.momentum_value(step)? {
            self.rule = cycled(&*self.rule, momentum)?;
        }
        self.groups.set_lrs(lr, step)?;
        let sign = if self.rule.maximize() { -1.0 } else { 1.0 };
        let policy = match self.nonfinite() {
            NonFinite::Skip => SKIP,
            NonFinite::Stop => SKIP | STOP,
            NonFinite::Propagate => 0,
        };
        let limit = self.clip.and_then(Clip::limit);
        let clip = if limit.is_some() { CLIP } else { 0 };
        let exact = if self.clip.is_some_and(Clip::is_exact) { EXACT } else { 0 };
        Ok(SlotHead {
            lr,
            inv_scale: sign / self.grad_scale,
            max_norm: limit.unwrap_or(f32::MAX),
            flags: policy | clip | exact,
        })
    }
}

/// The rule with another momentum.
fn cycled(rule: &dyn Rule, momentum: f64) -> Result<Arc<dyn Rule>, Error> {
    rule.with_cycled_momentum(momentum).ok_or_else(|| Error::Hyperparameter {
        owner: rule.name().to_owned(),
        name: "cycle_momentum",
        value: 1.0,
        allowed: "0 (false) in the schedule of a rule whose momentum or betas cannot be cycled",
    })
}
