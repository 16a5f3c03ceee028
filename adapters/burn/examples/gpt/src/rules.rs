//! Update rules by name, with what suits this network.

use examples_common::rules::{self, MOMENTUM};
use wgpu_optim::OptimizerBuilder;

use crate::Result;
pub(crate) use examples_common::rules::gradient_rules as names;

/// A peak learning rate that suits the network.
pub(crate) fn default_lr(name: &str) -> f64 {
    match name {
        "sgd" => 1.0,
        MOMENTUM => 0.1,
        "lion" | "signsgd" => 5e-4,
        "adagrad" | "lamb" => 0.02,
        "adan" => 0.01,
        "adadelta" | "prodigy" => 1.0,
        "lars" => 4.0,
        "rprop" => 1e-4,
        _ => 4e-3,
    }
}

/// The weight decay of a rule where none is given.
pub(crate) fn default_decay(name: &str) -> Option<f64> {
    match name {
        "adamw" => Some(0.1),
        "lion" => Some(1.0),
        "rprop" => None,
        _ => Some(0.0),
    }
}

/// The optimizer with a rule.
pub(crate) fn builder(name: &str, lr: f64, weight_decay: Option<f64>) -> Result<OptimizerBuilder> {
    rules::builder(name, lr, 0.9, weight_decay.or(default_decay(name)))
}
