use serde::{Deserialize, Serialize};

use crate::rule::{Adam, AdamW, Lion, Sgd};
use crate::{Optimizer, OptimizerBuilder};

/// A rule from a configuration file: `{"name": "adamw", "lr": 0.001, "betas": [0.9, 0.999]}`.
///
/// Keys are PyTorch's keyword names; those left out have the rule's defaults. An unknown name or key is an error that
/// lists what is allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RuleConfig {
    /// [`Sgd`].
    Sgd(Sgd),
    /// [`Adam`].
    Adam(Adam),
    /// [`AdamW`].
    #[serde(rename = "adamw")]
    AdamW(AdamW),
    /// [`Lion`].
    Lion(Lion),
}

impl RuleConfig {
    /// Starts an optimizer with the rule.
    pub fn builder(self) -> OptimizerBuilder {
        match self {
            Self::Sgd(rule) => Optimizer::builder(rule),
            Self::Adam(rule) => Optimizer::builder(rule),
            Self::AdamW(rule) => Optimizer::builder(rule),
            Self::Lion(rule) => Optimizer::builder(rule),
        }
    }
}
