use std::iter::{once, repeat};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use wgpu_optim::{Clip, GroupOptions, Layout, NonFinite, OptimizerBuilder, RuleConfig, Schedule};

use super::Error;

/// The configuration file; everything but the optimizer is optional.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    optimizer: Value,
    schedule: Option<Value>,
    clip: Option<Clip>,
    #[serde(default)]
    groups: Vec<Group>,
    #[serde(default)]
    tensors: Vec<Tensor>,
    nonfinite: Option<NonFinite>,
}

/// Elements `start` to `end - 1` of the flat space.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    start: usize,
    end: usize,
    #[serde(default = "one")]
    lr_scale: f64,
    weight_decay: Option<f64>,
    #[serde(default)]
    frozen: bool,
    schedule: Option<Value>,
}

fn one() -> f64 {
    1.0
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
}

impl Config {
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// One flat tensor unless the file names others, which must cover the trace's elements.
    pub(crate) fn layout(&self, len: usize) -> Result<Layout, Error> {
        let mut layout = Layout::builder().packed();
        if self.tensors.is_empty() {
            layout = layout.tensor("param", &[len]);
        }
        for Tensor { name, shape } in &self.tensors {
            layout = layout.tensor(name, shape);
        }
        for (i, group) in self.groups.iter().enumerate() {
            layout = layout.range(group.start..group.end, format!("groups[{i}]"));
        }
        let layout = layout.build()?;
        if layout.len() != len {
            let tensors = layout.len();
            return Err(
                format!("`tensors` of the configuration hold {tensors} elements, `param` of the trace {len}").into()
            );
        }
        Ok(layout)
    }

    pub(crate) fn builder(&self) -> Result<OptimizerBuilder, Error> {
        let rule: RuleConfig =
            serde_json::from_value(self.optimizer.clone()).map_err(|error| format!("optimizer: {error}"))?;
        // A scheduler of PyTorch starts from `initial_lr`, and `lr` of a dump is the rate of its step.
        let lr = self.optimizer.get("initial_lr").cloned().unwrap_or_else(|| rule.rule().spec().lr.into());
        let mut builder = rule.builder();
        if let Some(schedule) = &self.schedule {
            builder = builder.schedule(read_schedule(schedule.clone(), &lr)?);
        }
        if let Some(clip) = self.clip {
            builder = builder.clip(clip);
        }
        if let Some(nonfinite) = self.nonfinite {
            builder = builder.on_nonfinite(nonfinite);
        }
        for (i, group) in self.groups.iter().enumerate() {
            let mut options = GroupOptions::default().with_lr_scale(group.lr_scale);
            if let Some(weight_decay) = group.weight_decay {
                options = options.with_weight_decay(weight_decay);
            }
            if let Some(schedule) = &group.schedule {
                let schedule = read_schedule(schedule.clone(), &lr).map_err(|error| format!("groups[{i}]: {error}"))?;
                options = options.with_schedule(schedule);
            }
            // A range that is empty makes no group.
            if group.start < group.end {
                builder = builder.group(format!("groups[{i}]"), if group.frozen { options.frozen() } else { options });
            }
        }
        Ok(builder)
    }
}

fn read_schedule(mut schedule: Value, lr: &Value) -> Result<Schedule, Error> {
    inherit_lr(&mut schedule, lr);
    Ok(serde_json::from_value(schedule).map_err(|error| format!("schedule: {error}"))?)
}

/// A schedule begins from the optimizer's learning rate unless it names one, or takes none; of chained ones the first
/// does, and the others are factors.
fn inherit_lr(schedule: &mut Value, lr: &Value) {
    let Some(fields) = schedule.as_object_mut() else { return };
    let key = match fields.get("name").and_then(Value::as_str) {
        Some("one_cycle" | "cyclic" | "noam") => return,
        Some("piecewise_constant" | "piecewise_interpolate") => "init_value",
        Some("warmup") => return fields.get_mut("schedule").into_iter().for_each(|schedule| inherit_lr(schedule, lr)),
        Some(name @ ("sequential" | "chained")) => {
            let later = if name == "chained" { &Value::from(1.0) } else { lr };
            let schedules = fields.get_mut("schedulers").and_then(Value::as_array_mut).into_iter().flatten();
            return schedules.zip(once(lr).chain(repeat(later))).for_each(|(schedule, lr)| inherit_lr(schedule, lr));
        }
        _ => "lr",
    };
    fields.entry(key).or_insert_with(|| lr.clone());
}
