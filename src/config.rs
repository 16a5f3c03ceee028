use serde::{Deserialize, Serialize};

use crate::rule::{
    AdEMAMix, AdaBelief, Adadelta, Adagrad, Adam, AdamW, Adamax, Adan, Lamb, Lars, Lion, NAdam, NovoGrad, Prodigy,
    RAdam, RmsProp, Rprop, ScheduleFreeAdamW, ScheduleFreeSgd, Sgd, SignSgd, Sophia, Yogi,
};
use crate::{Optimizer, OptimizerBuilder};

/// A rule from a configuration file: `{"name": "adamw", "lr": 0.001, "betas": [0.9, 0.999]}`.
///
/// Keys are the rule's fields, where PyTorch has the rule its keyword names; those left out have the rule's defaults. An
/// unknown name or key is an error that lists what is allowed.
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
    /// [`Adagrad`].
    Adagrad(Adagrad),
    /// [`RmsProp`].
    #[serde(rename = "rmsprop")]
    RmsProp(RmsProp),
    /// [`Adadelta`].
    Adadelta(Adadelta),
    /// [`Adamax`].
    Adamax(Adamax),
    /// [`NAdam`].
    #[serde(rename = "nadam")]
    NAdam(NAdam),
    /// [`RAdam`].
    #[serde(rename = "radam")]
    RAdam(RAdam),
    /// [`AdaBelief`].
    #[serde(rename = "adabelief")]
    AdaBelief(AdaBelief),
    /// [`Yogi`].
    Yogi(Yogi),
    /// [`Adan`].
    Adan(Adan),
    /// [`AdEMAMix`].
    #[serde(rename = "ademamix")]
    AdEMAMix(AdEMAMix),
    /// [`Sophia`].
    Sophia(Sophia),
    /// [`Rprop`].
    Rprop(Rprop),
    /// [`SignSgd`].
    #[serde(rename = "signsgd")]
    SignSgd(SignSgd),
    /// [`ScheduleFreeSgd`].
    ScheduleFreeSgd(ScheduleFreeSgd),
    /// [`ScheduleFreeAdamW`].
    #[serde(rename = "schedule_free_adamw")]
    ScheduleFreeAdamW(ScheduleFreeAdamW),
    /// [`Lars`].
    Lars(Lars),
    /// [`Lamb`].
    Lamb(Lamb),
    /// [`NovoGrad`].
    #[serde(rename = "novograd")]
    NovoGrad(NovoGrad),
    /// [`Prodigy`].
    Prodigy(Prodigy),
}

impl RuleConfig {
    /// The names that are known.
    pub const NAMES: [&str; 23] = [
        "sgd",
        "adam",
        "adamw",
        "lion",
        "adagrad",
        "rmsprop",
        "adadelta",
        "adamax",
        "nadam",
        "radam",
        "adabelief",
        "yogi",
        "adan",
        "ademamix",
        "sophia",
        "rprop",
        "signsgd",
        "schedule_free_sgd",
        "schedule_free_adamw",
        "lars",
        "lamb",
        "novograd",
        "prodigy",
    ];

    /// Starts an optimizer with the rule.
    pub fn builder(self) -> OptimizerBuilder {
        match self {
            Self::Sgd(rule) => Optimizer::builder(rule),
            Self::Adam(rule) => Optimizer::builder(rule),
            Self::AdamW(rule) => Optimizer::builder(rule),
            Self::Lion(rule) => Optimizer::builder(rule),
            Self::Adagrad(rule) => Optimizer::builder(rule),
            Self::RmsProp(rule) => Optimizer::builder(rule),
            Self::Adadelta(rule) => Optimizer::builder(rule),
            Self::Adamax(rule) => Optimizer::builder(rule),
            Self::NAdam(rule) => Optimizer::builder(rule),
            Self::RAdam(rule) => Optimizer::builder(rule),
            Self::AdaBelief(rule) => Optimizer::builder(rule),
            Self::Yogi(rule) => Optimizer::builder(rule),
            Self::Adan(rule) => Optimizer::builder(rule),
            Self::AdEMAMix(rule) => Optimizer::builder(rule),
            Self::Sophia(rule) => Optimizer::builder(rule),
            Self::Rprop(rule) => Optimizer::builder(rule),
            Self::SignSgd(rule) => Optimizer::builder(rule),
            Self::ScheduleFreeSgd(rule) => Optimizer::builder(rule),
            Self::ScheduleFreeAdamW(rule) => Optimizer::builder(rule),
            Self::Lars(rule) => Optimizer::builder(rule),
            Self::Lamb(rule) => Optimizer::builder(rule),
            Self::NovoGrad(rule) => Optimizer::builder(rule),
            Self::Prodigy(rule) => Optimizer::builder(rule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name, every default, and no key of another's.
    #[test]
    fn every_rule_is_known_by_its_name() {
        for name in RuleConfig::NAMES {
            let text = format!(r#"{{"name": "{name}"}}"#);
            let rule: RuleConfig = serde_json::from_str(&text).expect(name);
            let written = serde_json::to_value(&rule).expect(name);
            assert_eq!(written["name"], name);
            assert_eq!(serde_json::from_value::<RuleConfig>(written).expect(name), rule);
            rule.builder().build_cpu(&crate::Layout::flat(3).expect("a layout")).expect(name);
            let message = serde_json::from_str::<RuleConfig>(&text.replace('}', r#", "momentums": 1}"#));
            assert!(message.expect_err(name).to_string().contains("momentums"), "{name}");
        }
    }
}
