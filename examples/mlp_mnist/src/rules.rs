//! Update rules by name, with what suits this network.

use examples_common::rules::{MOMENTUM, builder};
use wgpu_optim::OptimizerBuilder;

use crate::Result;
pub use examples_common::rules::gradient_rules as names;

/// A rule and its learning rate, written `adamw` or `adamw:0.004`.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub name: String,
    pub lr: f64,
}

/// A peak learning rate that suits the network.
fn default_lr(name: &str) -> f64 {
    match name {
        "sgd" => 1.0,
        MOMENTUM => 0.1,
        "lion" | "signsgd" => 4e-4,
        "adagrad" | "adan" | "lamb" => 0.02,
        "rmsprop" => 2e-3,
        "nadam" => 8e-3,
        "adadelta" | "prodigy" => 1.0,
        "lars" => 4.0,
        "rprop" => 1e-4,
        _ => 4e-3,
    }
}

impl Choice {
    pub fn new(name: &str, lr: Option<f64>) -> Self {
        Self { name: name.to_owned(), lr: lr.unwrap_or_else(|| default_lr(name)) }
    }

    /// Reads `name` or `name:lr`.
    pub fn read(text: &str) -> std::result::Result<Self, String> {
        let (name, lr) = text.split_once(':').map_or((text, None), |(name, lr)| (name, Some(lr)));
        if !names().contains(&name) {
            return Err(format!("no rule {name}: known are {}", names().join(", ")));
        }
        let lr = lr.map(str::parse).transpose().map_err(|error| format!("{text}: the learning rate: {error}"))?;
        check_lr(lr)?;
        Ok(Self::new(name, lr))
    }

    pub fn has_momentum(&self) -> bool {
        self.name == MOMENTUM
    }

    /// The rule with this learning rate; decoupled weight decay 0.01 with `adamw` and 0.1 with `lion`, where no other is given.
    pub fn builder(&self, momentum: Option<f64>, weight_decay: Option<f64>) -> Result<OptimizerBuilder> {
        let default_decay = match self.name.as_str() {
            "adamw" => Some(0.01),
            "lion" => Some(0.1),
            "rprop" => None,
            _ => Some(0.0),
        };
        builder(&self.name, self.lr, momentum.unwrap_or(0.9), weight_decay.or(default_decay))
    }
}

/// Refuses what is no learning rate.
pub fn check_lr(lr: Option<f64>) -> std::result::Result<(), String> {
    match lr {
        Some(lr) if !(lr >= 0.0 && lr.is_finite()) => {
            Err(format!("--lr is {lr}; give a finite number of 0 or more, such as 0.001"))
        }
        _ => Ok(()),
    }
}
