//! Transforms of gradients around any rule, and the rule with its transforms as kernels apply it.

mod clip_segment;
mod clip_value;

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

pub(crate) use clip_segment::ClipSegment;
pub(crate) use clip_value::ClipValue;

use crate::Error;
use crate::rule::{
    Elements, Factored, Metric, Reduction, Rule, RuleSpec, ScalarState, StepScalars, TensorState, Terms, four,
};

/// A rule with the transforms around it.
#[derive(Debug, Clone)]
pub(crate) struct TransformedRule {
    rule: Arc<dyn Rule>,
    /// The rule's spec, with the hyperparameters and constants of its transforms.
    spec: RuleSpec,
    clip_value: Option<ClipValue>,
    clip_segment: Option<ClipSegment>,
}

impl TransformedRule {
    /// # Errors
    /// [`Error::Unsupported`] for clipping by segments around a rule with sums of its own.
    pub(crate) fn new(
        rule: Arc<dyn Rule>,
        clip_value: Option<ClipValue>,
        clip_segment: Option<ClipSegment>,
    ) -> Result<Self, Error> {
        let mut spec = rule.spec();
        if let Some(clip) = &clip_segment {
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
        Ok(Self { rule, spec, clip_value, clip_segment })
    }

    /// The same transforms around the rule with another momentum.
    pub(crate) fn with_cycled_momentum(&self, momentum: f64) -> Result<Self, Error> {
        let unsupported = || Error::Unsupported {
            what: "a schedule that cycles the momentum".to_owned(),
            with: format!("rule {:?}, whose momentum or betas cannot be cycled", self.spec.name),
            remedy: "set `cycle_momentum` of the schedule to false",
        };
        let rule = self.rule.with_cycled_momentum(momentum).ok_or_else(unsupported)?;
        Self::new(rule, self.clip_value, self.clip_segment)
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
        self.clip_value
    }

    pub(crate) fn clip_segment(&self) -> Option<&ClipSegment> {
        self.clip_segment.as_ref()
    }

    /// The rule's sums, or those that clipping needs.
    pub(crate) fn reduction(&self) -> Option<&dyn Reduction> {
        self.clip_segment.as_ref().map_or_else(|| self.rule.reduction(), |clip| Some(clip))
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

    pub(crate) fn auxiliary_names(&self) -> &'static [&'static str] {
        self.rule.auxiliary_updates().map_or(&[], |updates| updates.auxiliary_names())
    }

    pub(crate) fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        match &self.clip_segment {
            Some(clip) => self.rule.update(elements.with_clip_factors(clip.clip_factors(step.sums)), step),
            None => self.rule.update(elements, step),
        }
    }

    /// Adds the terms of the rule's metric, if it has one.
    pub(crate) fn metric_of(&self, elements: Terms<'_>, step: &StepScalars) {
        let Some(metric) = self.rule.metric() else { return };
        match &self.clip_segment {
            Some(clip) => metric.metric(elements.with_clip_factors(clip.clip_factors(step.sums)), step),
            None => metric.metric(elements, step),
        }
    }

    pub(crate) fn update_auxiliary(&self, name: &str, elements: Elements<'_>, step: &StepScalars) {
        if let Some(updates) = self.rule.auxiliary_updates() {
            updates.auxiliary_update(name, elements, step);
        }
    }

    /// The scalar state before the first step.
    pub(crate) fn first_scalars(&self) -> [f32; 4] {
        four(&self.initial_scalars())
    }
}
