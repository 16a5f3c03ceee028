use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::rule::{
    AdEMAMix, AdaBelief, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Adan, Lamb, Lars, Lion, NAdam, NovoGrad,
    Prodigy, RAdam, RmsProp, Rprop, ScheduleFreeAdamW, ScheduleFreeSgd, Sgd, SignSgd, Sophia, Yogi,
};
use crate::{Optimizer, OptimizerBuilder, Rule};

/// Both enums have a variant per rule, under the rule's name.
macro_rules! rules {
    ($($Rule:ident = $name:literal),* $(,)?) => {
        /// A rule from a configuration file: `{"name": "adamw", "lr": 0.001, "betas": [0.9, 0.999]}`.
        ///
        /// Keys are the rule's fields, where PyTorch has the rule its keyword names; those left out have the rule's
        /// defaults. With `"convention": "keras"` they have those of [`AdamW::keras`], and so for every rule that has
        /// the preset; `"torch"` are the defaults. An unknown name, key or convention is an error that lists what is
        /// allowed.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(tag = "name")]
        #[non_exhaustive]
        pub enum RuleConfig {
            $(
                #[doc = concat!("[`", stringify!($Rule), "`].")]
                #[serde(rename = $name)]
                $Rule($Rule),
            )*
        }

        /// What is left when the convention is applied.
        #[derive(Deserialize)]
        #[serde(tag = "name")]
        enum Explicit {
            $(
                #[serde(rename = $name)]
                $Rule($Rule),
            )*
        }

        impl From<Explicit> for RuleConfig {
            fn from(rule: Explicit) -> Self {
                match rule {
                    $(Explicit::$Rule(rule) => Self::$Rule(rule),)*
                }
            }
        }

        impl RuleConfig {
            /// The names that are known.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The rule itself.
            pub fn rule(&self) -> &dyn Rule {
                match self {
                    $(Self::$Rule(rule) => rule,)*
                }
            }

            /// Starts an optimizer with the rule.
            pub fn builder(self) -> OptimizerBuilder {
                match self {
                    $(Self::$Rule(rule) => Optimizer::builder(rule),)*
                }
            }
        }

    };
}

rules! {
    Sgd = "sgd",
    Adam = "adam",
    AdamW = "adamw",
    Lion = "lion",
    Adagrad = "adagrad",
    RmsProp = "rmsprop",
    Adadelta = "adadelta",
    Adamax = "adamax",
    NAdam = "nadam",
    RAdam = "radam",
    AdaBelief = "adabelief",
    Yogi = "yogi",
    Adan = "adan",
    AdEMAMix = "ademamix",
    Sophia = "sophia",
    Rprop = "rprop",
    SignSgd = "signsgd",
    ScheduleFreeSgd = "schedule_free_sgd",
    ScheduleFreeAdamW = "schedule_free_adamw",
    Lars = "lars",
    Lamb = "lamb",
    NovoGrad = "novograd",
    Prodigy = "prodigy",
    Adafactor = "adafactor",
}

/// Rule, convention, and what that makes of the rule; `torch` are the defaults of every rule.
type Preset = (&'static str, &'static str, fn() -> RuleConfig);

const PRESETS: &[Preset] = &[
    ("adam", "optax", || RuleConfig::Adam(Adam::optax())),
    ("adam", "keras", || RuleConfig::Adam(Adam::keras())),
    ("adamw", "optax", || RuleConfig::AdamW(AdamW::optax())),
    ("adamw", "keras", || RuleConfig::AdamW(AdamW::keras())),
    ("adamw", "bitsandbytes", || RuleConfig::AdamW(AdamW::bitsandbytes())),
    ("sgd", "keras", || RuleConfig::Sgd(Sgd::keras())),
    ("lion", "optax", || RuleConfig::Lion(Lion::optax())),
    ("adagrad", "optax", || RuleConfig::Adagrad(Adagrad::optax())),
    ("adagrad", "keras", || RuleConfig::Adagrad(Adagrad::keras())),
    ("rmsprop", "optax", || RuleConfig::RmsProp(RmsProp::optax())),
    ("rmsprop", "keras", || RuleConfig::RmsProp(RmsProp::keras())),
    ("adafactor", "optax", || RuleConfig::Adafactor(Adafactor::optax())),
    ("nadam", "optax", || RuleConfig::NAdam(NAdam::optax())),
    ("radam", "optax", || RuleConfig::RAdam(RAdam::optax())),
    ("adamax", "optax", || RuleConfig::Adamax(Adamax::optax())),
    ("adan", "optax", || RuleConfig::Adan(Adan::optax())),
    ("lars", "optax", || RuleConfig::Lars(Lars::optax())),
    ("lamb", "apex", || RuleConfig::Lamb(Lamb::apex())),
    ("lamb", "optax", || RuleConfig::Lamb(Lamb::optax())),
    ("novograd", "optax", || RuleConfig::NovoGrad(NovoGrad::optax())),
];

impl<'de> Deserialize<'de> for RuleConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        if let Some(convention) = fields.remove("convention") {
            let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
            // Of an unknown or missing name the rules' own deserialization speaks below.
            if Self::NAMES.contains(&name) {
                let mut all = preset(name, &convention).map_err(D::Error::custom)?;
                all.append(&mut fields);
                fields = all;
            }
        }
        serde_json::from_value::<Explicit>(Value::Object(fields)).map(Self::from).map_err(D::Error::custom)
    }
}

/// The fields that a convention gives a rule.
fn preset(rule: &str, convention: &Value) -> Result<Map<String, Value>, String> {
    if convention == "torch" {
        return Ok(Map::new());
    }
    let presets = PRESETS.iter().filter(|preset| preset.0 == rule);
    let Some((.., make)) = presets.clone().find(|preset| convention == preset.1) else {
        let others: Vec<_> = presets.map(|preset| preset.1).collect();
        let allowed = [&["torch"][..], &others].concat();
        return Err(format!("{rule}: unknown convention {convention}, expected one of {allowed:?}"));
    };
    match serde_json::to_value(make()) {
        Ok(Value::Object(fields)) => Ok(fields),
        other => Err(format!("{rule}: convention {convention} is no map: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RuleConfig, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Every name, every default, and no key of another's.
    #[test]
    fn every_rule_is_known_by_its_name() {
        for name in RuleConfig::NAMES {
            let text = format!(r#"{{"name": "{name}"}}"#);
            let rule = read(&text).expect(name);
            assert_eq!(read(&text.replace('}', r#", "convention": "torch"}"#)).expect(name), rule);
            let written = serde_json::to_value(&rule).expect(name);
            assert_eq!(&written["name"], name);
            assert_eq!(serde_json::from_value::<RuleConfig>(written).expect(name), rule);
            rule.builder().build_cpu(&crate::Layout::flat(3).expect("a layout")).expect(name);
            let message = read(&text.replace('}', r#", "momentums": 1}"#)).expect_err(name);
            assert!(message.contains("momentums"), "{name}: {message}");
        }
    }

    #[test]
    fn a_convention_chooses_defaults_and_other_keys_override_them() {
        for (rule, convention, make) in PRESETS {
            let text = format!(r#"{{"convention": "{convention}", "name": "{rule}"}}"#);
            assert_eq!(read(&text), Ok(make()));
            let is_default = read(&text) == read(&format!(r#"{{"name": "{rule}"}}"#));
            assert_eq!(is_default, *convention == "apex", "{text}");
        }
        let text = r#"{"name": "adamw", "eps": 0.5, "convention": "keras", "amsgrad": true}"#;
        assert_eq!(read(text), Ok(RuleConfig::AdamW(AdamW::keras().with_eps(0.5).with_amsgrad(true))));
    }

    #[test]
    fn an_unknown_convention_is_named_with_what_is_allowed() {
        let message = read(r#"{"name": "adamw", "convention": "pytorch"}"#).unwrap_err();
        for part in ["adamw", "\"pytorch\"", "\"torch\", \"optax\", \"keras\", \"bitsandbytes\""] {
            assert!(message.contains(part), "{message}");
        }
        let message = read(r#"{"name": "rprop", "convention": "bitsandbytes"}"#).unwrap_err();
        assert!(message.contains("[\"torch\"]"), "{message}");
        assert!(read(r#"{"name": "sgd", "convention": 1}"#).unwrap_err().contains("convention 1"));
        for wrong in [r#"{"name": "adamx", "convention": "keras"}"#, r#"{"convention": "keras"}"#] {
            let message = read(wrong).unwrap_err();
            assert!(message.contains("name") || message.contains("adamx") && message.contains("adamw"), "{message}");
        }
    }
}
