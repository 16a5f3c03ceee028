//! An optimizer as a page describes it.

use serde::Deserialize;
use wgpu_optim::rule::AuxiliaryUpdates;
use wgpu_optim::{Clip, OptimizerBuilder, RuleConfig, Sam, Schedule};

use crate::Result;

/// Steps between two estimates of the curvature, for rules that need them.
const CURVATURE_EVERY: u64 = 10;

/// A rule, and what stands around it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub rule: RuleConfig,
    #[serde(default)]
    pub schedule: Option<Schedule>,
    #[serde(default)]
    pub clip: Option<Clip>,
    #[serde(default)]
    pub sam: Option<Sam>,
}

impl Entry {
    /// Reads `{"rule": {"name": "adam", "lr": 0.1}, "sam": {"rho": 0.1}}`.
    ///
    /// # Errors
    /// Unknown names and keys, with those that are allowed.
    pub fn read(json: &str) -> Result<Self> {
        Ok(serde_json::from_str(json)?)
    }

    pub fn builder(&self) -> OptimizerBuilder {
        let builder = self.rule.clone().builder();
        let builder = if let Some(schedule) = &self.schedule { builder.schedule(schedule.clone()) } else { builder };
        let builder = if let Some(clip) = self.clip { builder.clip(clip) } else { builder };
        if let Some(sam) = self.sam { builder.sam(sam) } else { builder }
    }

    /// Whether the rule updates its estimate of the curvature before a step.
    pub fn needs_curvature(&self, step: u64) -> bool {
        let names = self.rule.rule().auxiliary_updates().map(AuxiliaryUpdates::auxiliary_names);
        step.is_multiple_of(CURVATURE_EVERY) && names.is_some_and(|names| names.contains(&"update_hessian"))
    }
}
