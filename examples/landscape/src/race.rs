//! Rules that descend one function from the same points, each in flat buffers of its own.

use wgpu_optim::rule::{AuxiliaryUpdates, ReduceBy, Reduction};
use wgpu_optim::{Lamb, Lars, Layout, RuleConfig, Sophia};

use crate::{Result, cpu, gpu};
use examples_common::device::Device;
use examples_common::functions::Function;

/// Steps between two estimates of the curvature, for rules that take them.
const CURVATURE_EVERY: u32 = 10;

/// What all rules of a race have in common.
pub(crate) struct Course<'a> {
    pub(crate) function: &'a Function,
    /// Where the points start, in one flat buffer.
    pub(crate) starts: &'a [f32],
    /// Fewer of them, for rules to which each is a tensor: these take far longer. The first is the same.
    pub(crate) few_starts: &'a [f32],
    pub(crate) steps: u32,
    /// Steps after which all points are kept, ascending.
    pub(crate) frames: &'a [u32],
    /// Whether the first point is kept after every step.
    pub(crate) path: bool,
}

/// A rule in a race.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) lr: f64,
    pub(crate) rule: RuleConfig,
}

/// What is left of a race of one rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// The first point at its start and after every step; empty unless the course asks for it.
    pub(crate) path: Vec<[f32; 2]>,
    /// All points, once for each of the course's frames.
    pub(crate) frames: Vec<Vec<[f32; 2]>>,
    /// Steps that each point took to the target, if it was there at the end; one that left it again arrived later.
    pub(crate) arrivals: Vec<Option<u32>>,
}

impl Entry {
    /// A rule with another learning rate, and without weight decay: that would move the minimum.
    pub(crate) fn new(name: &str, rule: &RuleConfig, lr: f64) -> Result<Self> {
        let rule = match rule {
            // Sophia-G wants labels, and there are none.
            RuleConfig::Sophia(_) => RuleConfig::Sophia(Sophia::hutchinson()),
            // Without weight decay, their other conventions have no ratio: they are SGD and Adam.
            RuleConfig::Lars(_) => RuleConfig::Lars(Lars::optax()),
            RuleConfig::Lamb(_) => RuleConfig::Lamb(Lamb::optax()),
            rule => rule.clone(),
        };
        let mut fields = serde_json::to_value(rule)?;
        fields["lr"] = lr.into();
        if let Some(weight_decay) = fields.get_mut("weight_decay") {
            *weight_decay = 0.0.into();
        }
        Ok(Self { name: name.to_owned(), lr, rule: serde_json::from_value(fields)? })
    }

    /// All starts for an elementwise rule. Few for a rule with sums over tensors: each point is a tensor. The first for a
    /// rule with sums over all elements: more points would not be independent.
    pub(crate) fn starts<'a>(&self, course: &Course<'a>) -> &'a [f32] {
        match self.rule.rule().reduction().map(Reduction::by) {
            None => course.starts,
            Some(ReduceBy::All) => &course.starts[..course.function.dimensions],
            Some(_) => course.few_starts,
        }
    }

    /// All points in one tensor; one tensor per point for a rule with sums.
    pub(crate) fn layout(&self, course: &Course) -> Result<Layout> {
        let len = self.starts(course).len();
        if self.rule.rule().reduction().is_none() {
            return Ok(Layout::flat(len)?);
        }
        let dimensions = course.function.dimensions;
        let points = (0..len / dimensions).map(|point| format!("point{point}"));
        Ok(points.fold(Layout::builder().packed(), |layout, name| layout.tensor(name, &[dimensions])).build()?)
    }

    /// Whether the rule updates its estimate of the curvature after `step` steps.
    pub(crate) fn wants_curvature(&self, step: u32) -> bool {
        let names = self.rule.rule().auxiliary_updates().map(AuxiliaryUpdates::auxiliary_names);
        step.is_multiple_of(CURVATURE_EVERY) && names.is_some_and(|names| names.contains(&"update_hessian"))
    }
}

impl Course<'_> {
    /// The steps that a point took which was at the target at the last `stay` of all places, its start among them.
    pub(crate) fn arrival(&self, stay: u32) -> Option<u32> {
        (stay > 0).then_some(self.steps + 1 - stay)
    }
}

/// One record for each entry.
pub(crate) fn race(device: &Device, course: &Course, entries: &[Entry]) -> Result<Vec<Record>> {
    match device {
        Device::Gpu(gpu) => gpu::race(gpu, course, entries),
        Device::Cpu => cpu::race(course, entries),
    }
}
