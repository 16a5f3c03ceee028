//! Transforms around any rule, and the rule with its transforms as kernels apply it.

mod average;
mod clip_segment;
mod clip_value;
mod lookahead;
mod sam;

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

pub use average::{Average, Ema, Swa};
pub(crate) use clip_segment::ClipSegment;
pub(crate) use clip_value::ClipValue;
pub use lookahead::Lookahead;
pub use sam::Sam;

use crate::Error;
use crate::rule::{
    Elements, Factored, MAX_PACKED, MAX_STATES, Metric, Reduction, Rule, RuleSpec, ScalarState, StateSpec, StepScalars,
    TensorState, Terms, four,
};

/// The auxiliary update that puts parameters to evaluate in the place of training parameters.
pub(crate) const EVAL: &str = "eval";

/// The transforms around a rule, in the order in which they apply.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Transforms {
    pub(crate) clip_value: Option<ClipValue>,
    pub(crate) clip_segment: Option<ClipSegment>,
    pub(crate) lookahead: Option<Lookahead>,
    pub(crate) average: Option<Average>,
    pub(crate) sam: Option<Sam>,
}

/// A rule with the transforms around it.
#[derive(Debug, Clone)]
pub(crate) struct TransformedRule {
    rule: Arc<dyn Rule>,
    /// The rule's spec, with the hyperparameters, constants and bias corrections of its transforms.
    spec: RuleSpec,
    /// The states of its transforms, which follow the rule's own.
    transform_states: Vec<StateSpec>,
    transforms: Transforms,
}

impl TransformedRule {
    /// # Errors
    /// [`Error::Unsupported`] for transforms that exclude each other or the rule, [`Error::RuleInterface`] for too many states
    /// and bias corrections, and for a state of the rule with the name of a transform's.
    pub(crate) fn new(rule: Arc<dyn Rule>, transforms: Transforms) -> Result<Self, Error> {
        let mut spec = rule.spec();
        let mut transform_states = Vec::new();
        if let Some(clip) = &transforms.clip_segment {
            if rule.reduction().is_some() {
                return Err(Error::Unsupported {
                    what: "clipping by norms of groups, tensors or units".to_owned(),
                    with: format!("rule {:?}, which sums over tensors itself", spec.name),
                    remedy: "clip by global norm or by value",
                });
            }
            spec.hyperparameters.extend(clip.hyperparameters().map(|(name, value)| (name.into(), value)));
            let flags = clip.constants().map(|(name, flag)| (name.into(), f64::from(u8::from(flag))));
            spec.constants.extend(flags);
        }
        if let Some(lookahead) = &transforms.lookahead {
            spec.hyperparameters.extend(lookahead.hyperparameters().map(|(name, value)| (name.into(), value)));
            spec.constants.extend(lookahead.constants().map(|(name, value)| (name.into(), value)));
            transform_states.push(Lookahead::state());
        }
        if let Some(average) = &transforms.average {
            if rule.auxiliary_updates().is_some_and(|updates| updates.auxiliary_names().contains(&EVAL)) {
                return Err(Error::Unsupported {
                    what: "an average".to_owned(),
                    with: format!("rule {:?}, which has parameters for evaluation itself", spec.name),
                    remedy: "leave the average out: the rule averages",
                });
            }
            spec.hyperparameters.extend(average.hyperparameters().map(|(name, value)| (name.into(), value)));
            spec.constants.extend(average.constants().map(|(name, value)| (name.into(), value)));
            spec.bias_corrected.extend(average.bias_corrected());
            transform_states.push(Average::state());
        }
        if let Some(sam) = &transforms.sam {
            let hyperparameters = sam.hyperparameters(spec.maximize);
            spec.hyperparameters.extend(hyperparameters.map(|(name, value)| (name.into(), value)));
        }
        let problem = |problem: String| Err(Error::RuleInterface { rule: spec.name.to_string(), problem });
        for state in &transform_states {
            if spec.states.iter().any(|own| own.name == state.name) {
                return problem(format!("its state {:?} has the name of a state around it", state.name));
            }
        }
        let states = spec.present_states().count() + transform_states.len();
        for (what, count, max) in
            [("states", states, MAX_STATES), ("bias corrections", spec.bias_corrected.len(), MAX_PACKED)]
        {
            if count > max {
                return problem(format!("with its transforms it has {count} {what}; at most {max} are possible"));
            }
        }
        Ok(Self { rule, spec, transform_states, transforms })
    }

    /// The same transforms around the rule with another momentum.
    pub(crate) fn with_cycled_momentum(&self, momentum: f64) -> Result<Self, Error> {
        let unsupported = || Error::Unsupported {
            what: "a schedule that cycles the momentum".to_owned(),
            with: format!("rule {:?}, whose momentum or betas cannot be cycled", self.spec.name),
            remedy: "set `cycle_momentum` of the schedule to false",
        };
        let rule = self.rule.with_cycled_momentum(momentum).ok_or_else(unsupported)?;
        Self::new(rule, self.transforms)
    }

    /// The states that an optimizer keeps: the rule's, then those of its transforms.
    pub(crate) fn states(&self) -> impl Iterator<Item = &StateSpec> + Clone {
        self.spec.present_states().chain(&self.transform_states)
    }

    pub(crate) fn transform_states(&self) -> &[StateSpec] {
        &self.transform_states
    }

    /// Number of the rule's own states.
    pub(crate) fn own_states(&self) -> usize {
        self.spec.present_states().count()
    }

    pub(crate) fn lookahead(&self) -> Option<&Lookahead> {
        self.transforms.lookahead.as_ref()
    }

    pub(crate) fn average(&self) -> Option<&Average> {
        self.transforms.average.as_ref()
    }

    pub(crate) fn sam(&self) -> Option<&Sam> {
        self.transforms.sam.as_ref()
    }

    /// Number of the bias correction that is the sum of the average's weights.
    pub(crate) fn average_correction(&self) -> Option<usize> {
        let average = self.average().filter(|average| average.is_debiased());
        average.and_then(|_| self.spec.bias_corrected.len().checked_sub(1))
    }

    pub(crate) fn rule(&self) -> &dyn Rule {
        &*self.rule
    }

    pub(crate) fn spec(&self) -> &RuleSpec {
        &self.spec
    }

    pub(crate) fn wgsl(&self) -> Cow<'_, str> {
        self.rule.wgsl()
    }

    pub(crate) fn clip_value(&self) -> Option<ClipValue> {
        self.transforms.clip_value
    }

    pub(crate) fn clip_segment(&self) -> Option<&ClipSegment> {
        self.transforms.clip_segment.as_ref()
    }

    /// The rule's sums, or those that clipping needs.
    pub(crate) fn reduction(&self) -> Option<&dyn Reduction> {
        self.clip_segment().map_or_else(|| self.rule.reduction(), |clip| Some(clip))
    }

    pub(crate) fn tensor_state(&self) -> Option<&dyn TensorState> {
        self.rule.reduction().and_then(Reduction::tensor_state)
    }

    pub(crate) fn initial_tensor_state(&self) -> Vec<(&'static str, f32)> {
        self.tensor_state().map(TensorState::initial_tensor_state).unwrap_or_default()
    }

    pub(crate) fn initial_scalars(&self) -> Vec<(&'static str, f32)> {
        self.rule.scalar_state().map(ScalarState::initial_scalars).unwrap_or_default()
    }

    pub(crate) fn has_scalar_state(&self) -> bool {
        self.rule.scalar_state().is_some()
    }

    pub(crate) fn update_scalars(&self, scalars: &mut [f32; 4], lr: f32, bias_correction: [f32; 4], t: u32) {
        if let Some(state) = self.rule.scalar_state() {
            state.update_scalars(scalars, lr, bias_correction, t);
        }
    }

    pub(crate) fn factored(&self) -> Option<&dyn Factored> {
        self.rule.factored()
    }

    pub(crate) fn metric(&self) -> Option<&dyn Metric> {
        self.rule.metric()
    }

    pub(crate) fn auxiliary_names(&self) -> Vec<&'static str> {
        let own = self.rule.auxiliary_updates().map_or(&[][..], |updates| updates.auxiliary_names());
        own.iter().copied().chain(self.average().map(|_| EVAL)).collect()
    }

    /// Updates elements with the rule, then with its transforms: `apply` of the WGSL.
    pub(crate) fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        if self.transform_states.is_empty() {
            return self.update_by_rule(elements, step);
        }
        let Transforms { lookahead, average, .. } = &self.transforms;
        let begin = |param: &[f32], states: &mut [&mut [f32]]| {
            if let (Some(_), Some(slow)) = (lookahead, states.first_mut()) {
                Lookahead::begin_lookahead(slow, param, step.is_first);
            }
        };
        let end = |param: &mut [f32], states: &mut [&mut [f32]]| {
            let mut states = states.iter_mut();
            if let (Some(lookahead), Some(slow)) = (lookahead, lookahead.and_then(|_| states.next())) {
                lookahead.synchronize(slow, param, step.t);
            }
            if let (Some(average), Some(values)) = (average, states.next()) {
                average.update_average(values, param, step.t);
            }
        };
        elements.with_transforms(self.transform_states.len(), begin, |own| self.update_by_rule(own, step), end);
    }

    /// Updates elements that have the rule's own states.
    pub(crate) fn update_by_rule(&self, elements: Elements<'_>, step: &StepScalars) {
        match self.clip_segment() {
            Some(clip) => self.rule.update(elements.with_clip_factors(clip.clip_factors(step.sums)), step),
            None => self.rule.update(elements, step),
        }
    }

    /// Adds the terms of the rule's metric, if it has one.
    pub(crate) fn metric_of(&self, elements: Terms<'_>, step: &StepScalars) {
        let Some(metric) = self.rule.metric() else { return };
        match self.clip_segment() {
            Some(clip) => metric.metric(elements.with_clip_factors(clip.clip_factors(step.sums)), step),
            None => metric.metric(elements, step),
        }
    }

    pub(crate) fn update_auxiliary(&self, name: &str, elements: Elements<'_>, step: &StepScalars) {
        let correction = self.average_correction().map_or(1.0, |number| step.bias_correction[number]);
        let own = |elements: Elements<'_>| match self.rule.auxiliary_updates() {
            Some(updates) if name != EVAL || self.average().is_none() => updates.auxiliary_update(name, elements, step),
            _ => {}
        };
        let end = |param: &mut [f32], states: &mut [&mut [f32]]| {
            if let (EVAL, Some(average), Some(values)) = (name, self.average(), states.last()) {
                average.averaged(values, param, correction, step.t);
            }
        };
        elements.with_transforms(self.transform_states.len(), |_, _| (), own, end);
    }

    /// The scalar state before the first step.
    pub(crate) fn first_scalars(&self) -> [f32; 4] {
        four(&self.initial_scalars())
    }
}
