//! Update rules by name, with what suits this network.

use serde_json::{Value, json};
use wgpu_optim::{OptimizerBuilder, RuleConfig};

use crate::Result;

/// SGD with momentum.
const MOMENTUM: &str = "momentum";

/// Names of all rules that train with nothing but gradients.
pub(crate) fn names() -> Vec<&'static str> {
    // Sophia needs estimates of the Hessian. Schedule-free rules have no use for a schedule.
    let left_out = |name: &str| name == "sophia" || name.starts_with("schedule_free");
    RuleConfig::NAMES.iter().copied().filter(|name| !left_out(name)).chain([MOMENTUM]).collect()
}

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
    let mut fields = json!({ "name": name, "lr": lr });
    if name == MOMENTUM {
        fields["name"] = "sgd".into();
        fields["momentum"] = 0.9.into();
    }
    if let Some(decay) = weight_decay.or(default_decay(name)) {
        fields["weight_decay"] = Value::from(decay);
    }
    let config: RuleConfig = serde_json::from_value(fields).map_err(|error| format!("--optimizer {name}: {error}"))?;
    Ok(config.builder())
}
