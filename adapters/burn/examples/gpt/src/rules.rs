//! Update rules by name, with what suits this network.

use examples_common::rules::{self, MOMENTUM, gradient_rules};
use wgpu_optim::{OptimizerBuilder, RuleConfig};

use crate::Result;

/// All rules but Sophia, which needs estimates of the Hessian.
pub(crate) fn names() -> Vec<&'static str> {
    let schedule_free = RuleConfig::NAMES.iter().copied().filter(|name| is_schedule_free(name));
    gradient_rules().into_iter().chain(schedule_free).collect()
}

/// True for rules whose rate stays constant after the warm-up, and that average the parameters themselves.
pub(crate) fn is_schedule_free(name: &str) -> bool {
    name.starts_with("schedule_free")
}

/// A peak learning rate that suits the network.
pub(crate) fn default_lr(name: &str) -> f64 {
    match name {
        "sgd" | "schedule_free_sgd" => 1.0,
        MOMENTUM => 0.1,
        "lion" | "signsgd" => 5e-4,
        "adagrad" | "lamb" => 0.02,
        "adan" | "schedule_free_adamw" => 0.01,
        "adadelta" | "prodigy" => 1.0,
        "lars" => 4.0,
        "rprop" => 1e-4,
        _ => 4e-3,
    }
}

/// The weight decay of a rule where none is given.
pub(crate) fn default_decay(name: &str) -> Option<f64> {
    match name {
        "adamw" | "schedule_free_adamw" => Some(0.1),
        "lion" => Some(1.0),
        "rprop" => None,
        _ => Some(0.0),
    }
}

/// The optimizer with a rule.
pub(crate) fn builder(name: &str, lr: f64, weight_decay: Option<f64>) -> Result<OptimizerBuilder> {
    rules::builder(name, lr, 0.9, weight_decay.or(default_decay(name)))
}
