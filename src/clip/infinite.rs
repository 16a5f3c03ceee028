//! Numbers that may be infinite, which JSON writes as `"inf"`.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Named(String),
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields like this")]
pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let infinite = *value == f64::INFINITY;
    let number = if infinite { Number::Named("inf".to_owned()) } else { Number::Finite(*value) };
    number.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Number::deserialize(deserializer)? {
        Number::Finite(value) => Ok(value),
        Number::Named(name) if name == "inf" => Ok(f64::INFINITY),
        Number::Named(name) => Err(D::Error::custom(format!("{name:?} is no number; allowed: a number, or \"inf\""))),
    }
}
