//! A case: an optimizer, its buffers and a program, as JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::{Clip, Dtype, Error, GroupOptions, Layout, NonFinite, OptimizerBuilder, RuleConfig, Sam, Schedule};

/// One optimizer, the places of its buffers, and the calls that both engines make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// As [`RuleConfig`] reads it.
    pub rule: Value,
    pub tensors: Vec<Tensor>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub packed: bool,
    /// First element, end and group of each range.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ranges: Vec<(usize, usize, String)>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub groups: Vec<(String, GroupOptions)>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub schedule: Option<Schedule>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub clip: Option<Clip>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub sam: Option<Sam>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_nonfinite: Option<NonFinite>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_consecutive_skips: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub history: Option<HistoryOptions>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub grad_dtype: Dtype,
    /// Places of the parameters; they begin in the first. None: a whole buffer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub param_places: Vec<Place>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub grad_places: Vec<Place>,
    /// Whether the reference restores a snapshot by making the calls before it again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replays: bool,
    pub calls: Vec<Call>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    pub shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub group: Option<String>,
}

/// The buffers of parameters or gradients.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Place {
    /// A buffer of the layout's elements.
    #[default]
    Whole,
    /// The same, rounded up to 16 bytes.
    Rounded,
    /// A slice after so many words.
    Slice { ahead: u64 },
    /// Slices cut at these elements, each after so many words.
    Cut { at: Vec<usize>, ahead: u64, one_buffer: bool },
    /// A slice per tensor, of its own length.
    Tensors { ahead: u64, one_buffer: bool },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Call {
    Step(Gradients),
    Perturb(Gradients),
    /// Gradients as estimates, in f32.
    UpdateHessian(Gradients),
    SetLr(f64),
    SetGradScale(f32),
    /// The scale lies in a buffer.
    SetDeviceGradScale(f32),
    /// Copies the parameters to another of their places.
    Move(usize),
    /// Binds the buffers of the next step.
    Prepare(usize),
    /// Overwrites the snapshot of that number.
    Snapshot(usize),
    Restore(usize),
    Eval,
    Train,
    Resume,
    SetAppliedSteps(u64),
    /// Calls in one encoder.
    Together(Vec<Call>),
    /// Calls in an encoder that is dropped.
    Dropped(Vec<Call>),
    /// Calls in an encoder that is dropped after later calls were recorded: `then`, and a restoration of each snapshot in
    /// `dropped`.
    DroppedLate {
        dropped: Vec<Call>,
        then: Vec<Call>,
        /// Whether the later calls are submitted before the drop.
        #[serde(default, skip_serializing_if = "is_default")]
        submits_first: bool,
    },
}

/// Random gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gradients {
    pub seed: u64,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub magnitude: f32,
    /// Elements that are not finite.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bad: Vec<(usize, Bad)>,
    /// Number of their place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub place: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Bad {
    NaN,
    Infinity,
    NegInfinity,
}

impl Bad {
    pub fn value(self) -> f32 {
        match self {
            Self::NaN => f32::NAN,
            Self::Infinity => f32::INFINITY,
            Self::NegInfinity => f32::NEG_INFINITY,
        }
    }
}

fn one() -> f32 {
    1.0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(value: &f32) -> bool {
    *value == 1.0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Case {
    pub fn layout(&self) -> Result<Layout, Error> {
        let mut builder = Layout::builder();
        for (number, tensor) in self.tensors.iter().enumerate() {
            builder = builder.tensor(format!("tensor{number}"), &tensor.shape);
            if let Some(group) = &tensor.group {
                builder = builder.group(group);
            }
        }
        for (start, end, group) in &self.ranges {
            builder = builder.range(*start..*end, group);
        }
        if self.packed { builder.packed() } else { builder }.build()
    }

    pub fn rule(&self) -> Result<RuleConfig, serde_json::Error> {
        serde_json::from_value(self.rule.clone())
    }

    pub fn builder(&self, rule: RuleConfig) -> OptimizerBuilder {
        let mut builder = rule.builder().grad_dtype(self.grad_dtype);
        for (name, options) in &self.groups {
            builder = builder.group(name, options.clone());
        }
        if let Some(schedule) = &self.schedule {
            builder = builder.schedule(schedule.clone());
        }
        if let Some(clip) = self.clip {
            builder = builder.clip(clip);
        }
        if let Some(sam) = self.sam {
            builder = builder.sam(sam);
        }
        if let Some(policy) = self.on_nonfinite {
            builder = builder.on_nonfinite(policy);
        }
        if let Some(steps) = self.max_consecutive_skips {
            builder = builder.max_consecutive_skips(steps);
        }
        if let Some(history) = &self.history {
            builder = builder.history(history.clone());
        }
        builder
    }

    /// Whether the norm has an order whose powers WGSL leaves to the device.
    pub fn has_rough_norm(&self) -> bool {
        let order = match self.clip {
            Some(Clip::GlobalNorm(clip)) => clip.norm_type,
            Some(Clip::Percentile(clip)) => clip.norm_type,
            _ => 2.0,
        };
        ![1.0, 2.0, f64::INFINITY].contains(&order)
    }

    /// Whether the learning rate or a record depends on how many steps the host recorded.
    pub fn counts_recorded_steps(&self) -> bool {
        let scheduled = self.groups.iter().any(|(_, options)| !field(options, "schedule").is_null());
        self.schedule.is_some() || self.history.is_some() || scheduled
    }

    /// Whether the options of a group freeze it.
    pub fn is_frozen(&self, group: &str) -> bool {
        let options = self.groups.iter().rev().find(|(name, _)| name == group);
        options.is_some_and(|(_, options)| field(options, "frozen") == true)
    }
}

fn field(options: &GroupOptions, name: &str) -> Value {
    serde_json::to_value(options).map_or(Value::Null, |mut options| options[name].take())
}
