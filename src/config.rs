#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

#[cfg(feature = "safetensors")]
use std::any::Any;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::Rule;
use crate::rules::declare::{Declared, Preset};
use crate::rules::registry::for_each_rule;
#[allow(clippy::wildcard_imports, reason = "the registry names every rule")]
use crate::rules::*;

/// A rule with its name, as configuration files hold it.
#[derive(Serialize)]
struct Named<'a, R> {
    name: &'static str,
    #[serde(flatten)]
    rule: &'a R,
}

macro_rules! config {
    ($($module:ident: $($Rule:ident),+;)*) => {
        /// A rule from a configuration file: `{"name": "adamw", "lr": 0.001, "betas": [0.9, 0.999]}`.
        ///
        /// Keys are the rule's fields, PyTorch's keywords where PyTorch has the rule; missing ones have the rule's defaults.
        /// Floats that JSON lacks are `"inf"`, `"-inf"` and `"nan"`.
        /// With `"convention": "keras"` the defaults are those of [`AdamW::keras`], and so for every rule with that preset;
        /// `"torch"` means the rule's own. Errors on an unknown name, key or convention list what is allowed.
        ///
        /// A dump of PyTorch's `optimizer.param_groups[0]` with a `name` is a configuration too. Ignored, because they
        /// change no number: `params`, `param_names`, `foreach`, `fused`, `capturable`, `differentiable`, and
        /// `initial_lr`. Beside `initial_lr`, the learning rates and momenta of `OneCycleLR` and `CyclicLR` are ignored.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum RuleConfig {
            $($(
                #[doc = concat!("[`", stringify!($Rule), "`].")]
                $Rule($Rule),
            )+)*
        }

        impl RuleConfig {
            /// The names of all rules.
            pub const NAMES: &[&str] = &[$($($Rule::NAME),+),*];

            /// The rule.
            pub fn rule(&self) -> &dyn Rule {
                match self {
                    $($(Self::$Rule(rule) => rule,)+)*
                }
            }

            /// The rule, for an optimizer.
            pub(crate) fn into_rule(self) -> Arc<dyn Rule> {
                match self {
                    $($(Self::$Rule(rule) => Arc::new(rule),)+)*
                }
            }

            /// The configuration of a built-in rule; `None` for other rules.
            #[cfg(feature = "safetensors")]
            pub(crate) fn of(rule: &dyn Rule) -> Option<Self> {
                let rule: &dyn Any = rule;
                $($(
                    if let Some(rule) = rule.downcast_ref::<$Rule>() {
                        return Some(Self::$Rule(rule.clone()));
                    }
                )+)*
                None
            }

            fn from_fields(name: &str, mut fields: Map<String, Value>) -> Result<Self, String> {
                remove_torch_keys(name, &mut fields)?;
                match name {
                    $($($Rule::NAME => read($Rule::NAME, fields, $Rule::PRESETS).map(Self::$Rule),)+)*
                    unknown => Err(format!("unknown rule {unknown:?}, expected one of {:?}", Self::NAMES)),
                }
            }
        }

        impl Serialize for RuleConfig {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $($(Self::$Rule(rule) => Named { name: $Rule::NAME, rule }.serialize(serializer),)+)*
                }
            }
        }
    };
}

for_each_rule!(config);

impl<'de> Deserialize<'de> for RuleConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let name = fields.remove("name").ok_or_else(|| D::Error::missing_field("name"))?;
        let name = name.as_str().ok_or_else(|| D::Error::custom(format!("the name {name} is not a string")))?;
        Self::from_fields(name, fields).map_err(D::Error::custom)
    }
}

/// Removes the keys of PyTorch's parameter groups that change no number of the rule.
fn remove_torch_keys(name: &str, fields: &mut Map<String, Value>) -> Result<(), String> {
    let is_scheduled = fields.contains_key("initial_lr");
    // The schedulers' own keys. `max_lr` of a rule has another meaning.
    let scheduler = ["initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"];
    let group = ["params", "param_names", "foreach", "fused", "capturable", "differentiable"];
    for key in scheduler.iter().filter(|_| is_scheduled).chain(&group) {
        fields.remove(*key);
    }
    if name == AdamW::NAME {
        let decoupled = fields.remove("decoupled_weight_decay").unwrap_or(Value::Bool(true));
        if decoupled != Value::Bool(true) {
            return Err(format!("adamw: decoupled_weight_decay is {decoupled}; allowed: true, or the rule \"adam\""));
        }
    }
    Ok(())
}

/// A rule from its fields, those of its convention in place of missing ones.
fn read<R>(name: &str, mut fields: Map<String, Value>, presets: &[Preset<R>]) -> Result<R, String>
where
    R: Declared + Serialize + serde::de::DeserializeOwned,
{
    if let Some(convention) = fields.remove("convention").filter(|convention| convention != "torch") {
        let Some((.., make)) = presets.iter().find(|preset| convention == preset.0) else {
            let others: Vec<_> = presets.iter().map(|preset| preset.0).collect();
            let allowed = [&["torch"][..], &others].concat();
            return Err(format!("{name}: unknown convention {convention}, expected one of {allowed:?}"));
        };
        if let Ok(Value::Object(mut all)) = serde_json::to_value(make()) {
            all.append(&mut fields);
            fields = all;
        }
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
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

    macro_rules! check_presets {
        ($($module:ident: $($Rule:ident),+;)*) => {
            $($(
                for (preset, _, make) in $Rule::PRESETS {
                    let text = format!(r#"{{"convention": "{preset}", "name": "{}"}}"#, $Rule::NAME);
                    assert_eq!(read(&text), Ok(RuleConfig::$Rule(make())), "{text}");
                    // apex's convention is the default of LAMB.
                    assert_eq!(make() == $Rule::default(), *preset == "apex", "{text}");
                }
            )+)*
        };
    }

    #[test]
    fn a_convention_chooses_defaults_and_other_keys_override_them() {
        for_each_rule!(check_presets);
        let text = r#"{"name": "adamw", "eps": 0.5, "convention": "keras", "amsgrad": true}"#;
        assert_eq!(read(text), Ok(RuleConfig::AdamW(AdamW::keras().with_eps(0.5).with_amsgrad(true))));
    }

    /// No rule has an option that a dump's keys would hide.
    #[test]
    fn no_rule_has_a_key_of_torch_that_is_ignored() {
        macro_rules! check_keys {
            ($($module:ident: $($Rule:ident),+;)*) => {
                $($(
                    for option in $Rule::OPTIONS {
                        let mut fields = Map::from_iter([((*option).to_owned(), Value::Bool(true))]);
                        remove_torch_keys($Rule::NAME, &mut fields).expect(option);
                        assert!(fields.contains_key(*option), "{}: {option}", $Rule::NAME);
                    }
                )+)*
            };
        }
        for_each_rule!(check_keys);
    }

    #[test]
    fn a_dump_without_a_scheduler_keeps_unknown_learning_rates() {
        for key in ["min_lr", "max_momentum", "base_momentum"] {
            let message = read(&format!(r#"{{"name": "adamw", "{key}": 0.5}}"#)).unwrap_err();
            assert!(message.contains(key), "{message}");
        }
        let rule = read(r#"{"name": "adamw", "max_lr": 0.5}"#);
        assert_eq!(rule, Ok(RuleConfig::AdamW(AdamW::default().with_max_lr(Some(0.5)))));
        let dump = r#"{"name": "adamw", "max_lr": 0.5, "min_lr": 0.25, "initial_lr": 0.25, "max_momentum": 0.95}"#;
        assert_eq!(read(dump), Ok(RuleConfig::AdamW(AdamW::default())));
    }

    #[test]
    fn adamw_is_always_decoupled() {
        for (value, ok) in [("true", true), ("false", false), ("1", false)] {
            let rule = read(&format!(r#"{{"name": "adamw", "decoupled_weight_decay": {value}}}"#));
            match rule {
                Ok(rule) => assert!(ok && rule == RuleConfig::AdamW(AdamW::default())),
                Err(message) => assert!(!ok && message.contains("decoupled_weight_decay"), "{message}"),
            }
        }
    }

    #[test]
    fn an_unknown_convention_is_named_with_what_is_allowed() {
        let message = read(r#"{"name": "adamw", "convention": "pytorch"}"#).unwrap_err();
        for part in ["adamw", "\"pytorch\"", "\"torch\", \"optax\", \"keras\", \"bitsandbytes\", \"burn\""] {
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
