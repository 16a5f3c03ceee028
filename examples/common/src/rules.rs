//! Rules by their names on the command line.

use std::error::Error;

use serde_json::{Value, json};
use wgpu_optim::{OptimizerBuilder, RuleConfig};

/// SGD with momentum.
pub const MOMENTUM: &str = "momentum";

/// Names of all rules that train with nothing but gradients, and [`MOMENTUM`].
pub fn gradient_rules() -> Vec<&'static str> {
    // Sophia needs estimates of the Hessian, and schedule-free rules a switch before each evaluation.
    let left_out = |name: &str| name == "sophia" || name.starts_with("schedule_free");
    RuleConfig::NAMES.iter().copied().filter(|name| !left_out(name)).chain([MOMENTUM]).collect()
}

/// The optimizer with a rule of that name, in [`gradient_rules`]; the momentum is that of [`MOMENTUM`] alone.
///
/// # Errors
/// A setting that the rule has not.
pub fn builder(
    name: &str,
    lr: f64,
    momentum: f64,
    weight_decay: Option<f64>,
) -> Result<OptimizerBuilder, Box<dyn Error>> {
    let mut fields = json!({ "name": name, "lr": lr });
    if name == MOMENTUM {
        fields["name"] = "sgd".into();
        fields["momentum"] = momentum.into();
    }
    if let Some(decay) = weight_decay {
        fields["weight_decay"] = Value::from(decay);
    }
    let config: RuleConfig = serde_json::from_value(fields).map_err(|error| format!("--optimizer {name}: {error}"))?;
    Ok(config.builder())
}

/// The rules of these names: those of configurations, `sgd_momentum` (0.9), `adam_amsgrad`, `adamw_amsgrad`, and `all` of the first kind.
///
/// # Errors
/// An unknown name, with those that are known.
pub fn rules(names: &[String]) -> Result<Vec<(String, RuleConfig)>, Box<dyn Error>> {
    let names = names.iter().flat_map(|name| match name.as_str() {
        "all" => RuleConfig::NAMES.to_vec(),
        name => vec![name],
    });
    names.map(|name| Ok((name.to_owned(), rule(name)?))).collect()
}

fn rule(name: &str) -> Result<RuleConfig, Box<dyn Error>> {
    let json = match name {
        "sgd_momentum" => r#"{"name": "sgd", "momentum": 0.9}"#.to_owned(),
        "adam_amsgrad" => r#"{"name": "adam", "amsgrad": true}"#.to_owned(),
        "adamw_amsgrad" => r#"{"name": "adamw", "amsgrad": true}"#.to_owned(),
        name if RuleConfig::NAMES.contains(&name) => format!(r#"{{"name": "{name}"}}"#),
        name => {
            let known = RuleConfig::NAMES.join(", ");
            return Err(
                format!("no rule {name}: known are {known}, sgd_momentum, adam_amsgrad, adamw_amsgrad, all").into()
            );
        }
    };
    Ok(serde_json::from_str(&json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_known_by_name() {
        let rules = |names: &[&str]| rules(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        let names = |names: &[&str]| rules(names).expect("known").into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&["all"]), RuleConfig::NAMES);
        assert_eq!(names(&["sgd_momentum", "lion"]), ["sgd_momentum", "lion"]);
        let error = rules(&["adamx"]).expect_err("unknown").to_string();
        assert!(error.contains("adamx") && error.contains("adamw"), "{error}");
    }
}
