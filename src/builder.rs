use std::sync::Arc;

use crate::cpu::CpuOptimizer;
use crate::metrics::HistoryOptions;
use crate::optimizer::Optimizer;
use crate::plan::PlanSettings;
use crate::rule::Rule;
use crate::{Clip, Error, GroupOptions, Layout, NonFinite, Schedule, SharedPipelines};

/// Everything that makes an optimizer but the device; see [`Optimizer::builder`].
#[must_use]
#[derive(Debug, Clone)]
pub struct OptimizerBuilder {
    pub(crate) settings: PlanSettings,
}

impl OptimizerBuilder {
    pub(crate) fn new(rule: Arc<dyn Rule>) -> Self {
        Self { settings: PlanSettings::new(rule) }
    }

    /// The learning rate over time, and with [`OneCycle`](crate::schedule::OneCycle) and
    /// [`Cyclic`](crate::schedule::Cyclic) the momentum. Default: the rule's `lr` and momentum throughout.
    pub fn schedule(mut self, schedule: impl Into<Schedule>) -> Self {
        self.settings.schedule = Some(schedule.into());
        self
    }

    /// Clips gradients: by value, in the same dispatch; by a global norm, in three instead of one; by norms of groups or
    /// units, in five. Default: no clipping.
    pub fn clip(mut self, clip: Clip) -> Self {
        self.settings.clip = Some(clip);
        self
    }

    /// What to do when a gradient is not finite. Default: see [`NonFinite`].
    pub fn nonfinite(mut self, nonfinite: NonFinite) -> Self {
        self.settings.nonfinite = Some(nonfinite);
        self
    }

    /// After so many skipped steps in a row the statistics say `too_many_skips`, since something is wrong then that skipping
    /// does not mend. Steps are refused as before. From 1. Default: never.
    pub fn max_consecutive_skips(mut self, steps: u32) -> Self {
        self.settings.max_consecutive_skips = steps;
        self
    }

    /// Keeps the statistics of the last steps, on the device for an optimizer there: so many, or with norms and by groups as
    /// the options say; see [`Optimizer::history`]. Default: only those of the last step.
    pub fn history(mut self, options: impl Into<HistoryOptions>) -> Self {
        self.settings.history = Some(options.into());
        self
    }

    /// Options of one of the layout's groups; given twice, the later ones count. Groups without options take the
    /// rule's.
    pub fn group(mut self, name: impl Into<String>, options: GroupOptions) -> Self {
        self.settings.groups.push((name.into(), options));
        self
    }

    /// Makes the optimizer on a device, its states as the rule begins and its step 0. The states take the rule's bytes per
    /// parameter (see each rule) in as many buffers as the device's limits ask for.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`], [`Error::UnknownGroup`], [`Error::DeviceLimit`], [`Error::RuleInterface`],
    /// [`Error::Shader`].
    pub fn build(self, device: &wgpu::Device, layout: &Layout) -> Result<Optimizer, Error> {
        self.build_shared(&SharedPipelines::new(device), layout)
    }

    /// As [`OptimizerBuilder::build`], on the device of `pipelines`, which are compiled once for all optimizers that share
    /// them.
    ///
    /// # Errors
    /// Those of [`OptimizerBuilder::build`].
    pub fn build_shared(self, pipelines: &SharedPipelines, layout: &Layout) -> Result<Optimizer, Error> {
        Optimizer::new(pipelines, &self.settings, layout)
    }

    /// Makes the optimizer on the CPU.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`], [`Error::UnknownGroup`], [`Error::RuleInterface`].
    pub fn build_cpu(self, layout: &Layout) -> Result<CpuOptimizer, Error> {
        CpuOptimizer::new(&self.settings, layout)
    }
}
