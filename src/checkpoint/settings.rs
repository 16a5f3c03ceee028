//! The settings of an optimizer as a file holds them, and how those of a program differ.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::difference::Difference;
use super::error::CheckpointError;
use crate::config::RuleConfig;
use crate::layout::Member;
use crate::plan::{PlanSettings, StepPlan};
use crate::rule::{Rule, RuleSpec};
use crate::{Dtype, GroupOptions, Precision};

/// The settings of an optimizer, without its schedule, as JSON. `renamed` maps names of the program to names of the file.
pub(crate) fn settings(plan: &StepPlan, renamed: &HashMap<String, String>) -> Map<String, Value> {
    let settings = &plan.settings;
    let groups = settings.groups.iter().map(|(name, options)| (name.clone(), group_options(options)));
    let members: Map<String, Value> = if plan.layout.groups().is_empty() { Map::new() } else { members(plan, renamed) };
    [
        ("rule", rule(&*settings.rule)),
        ("clip", json(&settings.clip)),
        ("lookahead", json(&settings.lookahead)),
        ("average", json(&settings.average)),
        ("sam", json(&settings.sam)),
        ("on_nonfinite", json(&settings.on_nonfinite)),
        ("max_consecutive_skips", json(&settings.max_consecutive_skips)),
        ("history", json(&settings.history)),
        ("grad_dtype", json(&settings.precision.grads)),
        ("precision", json(&(!settings.precision.is_f32()).then(|| settings.precision.clone().with_grads(Dtype::F32)))),
        ("accumulates", json(&settings.accumulates.then_some(true))),
        ("rows", json(&settings.rows)),
        ("grad_scaler", json(&settings.grad_scaler)),
        ("missing_gradients", json(&settings.misses_gradients.then_some(true))),
        ("groups", Value::Object(groups.collect())),
        ("members", Value::Object(members)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The settings of a file. Its built-in rule may leave out options, or have further keys of PyTorch.
pub(super) fn with_all_options(settings: &Map<String, Value>) -> Map<String, Value> {
    let mut settings = settings.clone();
    if let Ok(rule) = field::<RuleConfig>(&settings, "rule") {
        settings.insert("rule".to_owned(), json(&rule));
    }
    settings
}

/// The settings of a file, without the schedule.
///
/// # Errors
/// [`CheckpointError::CustomRule`], [`CheckpointError::NotACheckpoint`].
pub(super) fn parse(settings: &Map<String, Value>) -> Result<PlanSettings, CheckpointError> {
    let rule: RuleConfig = field(settings, "rule").map_err(|error| {
        let name = settings.get("rule").and_then(|rule| rule.get("name")).and_then(Value::as_str).unwrap_or_default();
        if RuleConfig::NAMES.contains(&name) { error } else { CheckpointError::CustomRule { rule: name.to_owned() } }
    })?;
    let groups: BTreeMap<String, GroupOptions> = field(settings, "groups")?;
    Ok(PlanSettings {
        clip: field(settings, "clip")?,
        lookahead: field(settings, "lookahead")?,
        average: field(settings, "average")?,
        sam: field(settings, "sam")?,
        on_nonfinite: field(settings, "on_nonfinite")?,
        max_consecutive_skips: field(settings, "max_consecutive_skips")?,
        history: field(settings, "history")?,
        precision: parsed_precision(settings)?,
        accumulates: field::<Option<bool>>(settings, "accumulates")?.unwrap_or_default(),
        rows: field(settings, "rows")?,
        grad_scaler: field(settings, "grad_scaler")?,
        misses_gradients: field::<Option<bool>>(settings, "missing_gradients")?.unwrap_or_default(),
        groups: groups.into_iter().collect(),
        ..PlanSettings::new(rule.into_rule())
    })
}

/// The storage formats of a file. Files of f32 parameters and states hold those of the gradients alone.
pub(super) fn parsed_precision(settings: &Map<String, Value>) -> Result<Precision, CheckpointError> {
    let others: Option<Precision> = field(settings, "precision")?;
    let grads: Option<Dtype> = field(settings, "grad_dtype")?;
    Ok(others.unwrap_or_default().with_grads(grads.unwrap_or_default()))
}

fn field<T: DeserializeOwned>(settings: &Map<String, Value>, name: &str) -> Result<T, CheckpointError> {
    let value = settings.get(name).cloned().unwrap_or_default();
    serde_json::from_value(value)
        .map_err(|error| CheckpointError::NotACheckpoint { problem: format!("its setting {name:?}: {error}") })
}

/// The value as JSON; its error, if it holds a function.
pub(super) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| Value::String(error.to_string()))
}

/// A built-in rule as in configuration files; of others, the numbers of their spec.
fn rule(rule: &dyn Rule) -> Value {
    if let Some(config) = RuleConfig::of(rule) {
        return json(&config);
    }
    let RuleSpec { name, lr, weight_decay, maximize, hyperparameters, constants, bias_corrected, states: _ } =
        rule.spec();
    let number = |value: f64| crate::number::Portable::to_form(&value);
    let hyperparameters =
        hyperparameters.iter().map(|(name, value)| (name.to_string(), json(&number((*value).into()))));
    let constants = constants.iter().map(|(name, value)| (name.to_string(), json(&number(*value))));
    let fields = [
        ("name", json(&name)),
        ("lr", json(&number(lr))),
        ("weight_decay", json(&number(weight_decay))),
        ("maximize", json(&maximize)),
        ("hyperparameters", Value::Object(hyperparameters.collect())),
        ("constants", Value::Object(constants.collect())),
        ("bias_corrected", json(&bias_corrected)),
    ];
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn group_options(options: &GroupOptions) -> Value {
    serde_json::to_value(options).unwrap_or_else(|_| {
        // The group's schedule is a function.
        let schedule = options.schedule.as_ref().map(ToString::to_string);
        let mut value = json(&GroupOptions { schedule: None, ..options.clone() });
        if let Value::Object(fields) = &mut value {
            fields.insert("schedule".to_owned(), json(&schedule));
        }
        value
    })
}

/// Runs of elements of one group, for each tensor that has any: length and group.
fn members(plan: &StepPlan, renamed: &HashMap<String, String>) -> Map<String, Value> {
    let (layout, mut members) = (&plan.layout, Map::new());
    for tensor in layout.tensors() {
        let range = tensor.range();
        let first = layout.spans().partition_point(|span| span.end <= range.start);
        let (mut runs, mut start) = (Vec::new(), range.start);
        for span in layout.spans().iter().skip(first).take_while(|_| !range.is_empty()) {
            let end = span.end.min(range.end);
            let group = match span.member {
                Member::Group(group) => layout.groups().get(group),
                Member::Ungrouped | Member::Gap => None,
            };
            runs.push((end - start, group));
            start = end;
            if end == range.end {
                break;
            }
        }
        if runs.iter().any(|(_, group)| group.is_some()) {
            let name = renamed.get(tensor.name()).map_or(tensor.name(), String::as_str);
            members.insert(name.to_owned(), json(&runs));
        }
    }
    members
}

/// The leaves in which two JSON objects differ.
pub(crate) fn differences(file: &Map<String, Value>, program: &Map<String, Value>) -> Vec<Difference> {
    let mut found = Vec::new();
    add_differences("", file, program, &mut found);
    found
}

fn add_differences(path: &str, file: &Map<String, Value>, program: &Map<String, Value>, found: &mut Vec<Difference>) {
    let mut names: Vec<&String> = file.keys().chain(program.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        // An option that a file lacks is not in use.
        let [file, program] = [file, program].map(|settings| settings.get(name).filter(|value| !value.is_null()));
        let setting = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (file, program) {
            (Some(Value::Object(file)), Some(Value::Object(program))) => {
                add_differences(&setting, file, program, found);
            }
            _ if file == program => {}
            _ => {
                let text = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
                found.push(Difference { setting, file: text(file), program: text(program) });
            }
        }
    }
}
