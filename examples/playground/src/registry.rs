//! Rules and their options, as the registry of the crate has them.

use serde::Serialize;
use serde_json::{Map, Value};
use wgpu_optim::RuleConfig;

use crate::Result;

/// An option of a rule or a parameter of a schedule.
#[derive(Debug, Serialize)]
pub struct Field {
    pub name: String,
    pub default: Value,
    /// What may be chosen, of a field with named alternatives.
    pub choices: Vec<String>,
}

/// A rule or a schedule with its fields.
#[derive(Debug, Serialize)]
pub struct Form {
    pub name: String,
    pub fields: Vec<Field>,
}

/// A form for every rule.
///
/// # Errors
/// Rules that cannot be written.
pub fn rules() -> Result<Vec<Form>> {
    let form = |name: &&str| {
        let rule: RuleConfig = serde_json::from_value(serde_json::json!({ "name": name }))?;
        form(&serde_json::to_value(rule)?, |fields| serde_json::from_value::<RuleConfig>(fields).err())
    };
    RuleConfig::NAMES.iter().map(form).collect()
}

/// The form of a value with a `name`. `refusal` is the error of reading such a value.
///
/// # Errors
/// What is no object with a name.
pub fn form(value: &Value, refusal: impl Fn(Value) -> Option<serde_json::Error>) -> Result<Form> {
    let all = value.as_object().ok_or("a form is made of an object")?;
    let name = all.get("name").and_then(Value::as_str).ok_or("a form has a name")?.to_owned();
    let fields = all.iter().filter(|(field, _)| *field != "name");
    let fields = fields.map(|(field, default)| Field {
        name: field.clone(),
        default: default.clone(),
        choices: if default.is_string() { choices(all, field, &refusal) } else { Vec::new() },
    });
    Ok(Form { fields: fields.collect(), name })
}

/// The alternatives of a field: serde lists them when it refuses another.
fn choices(all: &Map<String, Value>, field: &str, refusal: impl Fn(Value) -> Option<serde_json::Error>) -> Vec<String> {
    let mut wrong = all.clone();
    wrong.insert(field.to_owned(), Value::from("no such alternative"));
    let Some(error) = refusal(Value::Object(wrong)) else { return Vec::new() };
    let message = error.to_string();
    let Some((_, expected)) = message.split_once("expected ") else { return Vec::new() };
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
