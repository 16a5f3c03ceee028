use super::readback::Readback;
use crate::kernels::control::{ControlBlock, INVALID_SCALE, NONE, NORM_MEASURED};

/// The statistics of one executed step, applied or skipped.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "each is a finding of its own")]
pub struct Stats {
    /// Steps applied so far.
    pub step: u64,
    /// Steps skipped so far: for a non-finite gradient, or because the optimizer is stopped.
    pub skipped: u64,
    /// Steps skipped in a row, up to this one.
    pub consecutive_skipped: u64,
    /// Whether `consecutive_skipped` has reached the limit of
    /// [`OptimizerBuilder::max_consecutive_skips`](crate::OptimizerBuilder::max_consecutive_skips).
    pub too_many_skips: bool,
    /// Learning rate of the step.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub lr: f32,
    /// Norm of all active gradients, after the gradient scale and before clipping, with the order
    /// [`GlobalNorm::norm_type`](crate::clip::GlobalNorm::norm_type) (default: Euclidean). `None` in a single-pass step.
    /// NaN or infinite if a gradient is; infinite if the norm exceeds f32.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub grad_norm: Option<f32>,
    /// Coefficient of clipping by global norm, from 0 to 1; 1 without that clipping.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub clip_coef: f32,
    /// Whether the gradient scale was invalid: not a positive normal f32 with a normal inverse. The step is then
    /// treated like a step with a non-finite gradient.
    pub invalid_grad_scale: bool,
    /// The loss scale after the step; `None` without a [`GradScaler`](crate::GradScaler).
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub loss_scale: Option<f32>,
    /// Flat index of the first non-finite gradient; `None` if all were finite.
    pub first_nonfinite: Option<u64>,
    /// Whether [`NonFinite::Stop`](crate::NonFinite::Stop) has stopped the optimizer.
    pub stopped: bool,
    /// Whether the last [`remap`](crate::Optimizer::remap) before the step found an invalid index. The next one resets it.
    #[cfg_attr(feature = "serde", serde(default))]
    pub invalid_rows: bool,
    /// Tensors without a gradient in the step: see
    /// [`OptimizerBuilder::missing_gradients`](crate::OptimizerBuilder::missing_gradients).
    #[cfg_attr(feature = "serde", serde(default))]
    pub missing_gradients: u64,
    /// Euclidean norm of the active parameters before the step. This field and all below are `None` unless the step was
    /// applied and sampled ([`HistoryOptions::with_norms_every`](crate::history::HistoryOptions::with_norms_every)).
    /// Norms are f32 sums of squares: values above about 1e19 make them infinite, values below about 1e-19 add nothing.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub param_norm: Option<f32>,
    /// Euclidean norm of the change of the active parameters, weight decay included. Whether the change is rounded to
    /// f32 before it is squared depends on the shader compiler.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub update_norm: Option<f32>,
    /// `update_norm / param_norm`; 0 if `update_norm` is 0, infinite if only `param_norm` is 0.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub update_ratio: Option<f32>,
    /// Fraction of the active elements whose gradient was clipped, from 0 to 1. With clipping by global norm: 0 or 1.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub clipped_fraction: Option<f32>,
    /// Fraction of the active elements for which the rule's [`Metric`](crate::rule::Metric) holds, from 0 to 1:
    /// [`Sophia`](crate::Sophia)'s win rate, [`Lion`](crate::Lion)'s sign agreement. `None` for rules without a metric.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub rule_metric: Option<f32>,
    /// Fraction of the active elements whose update rounding to the nearest loses, from 0 to 1: the stored parameter would stay
    /// as it is, although its gradient is not 0 or the rule moves it in f32. With a learning rate of 0 it is 1. A large fraction is
    /// why training in bf16 without a master or stochastic rounding stands still.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub lost_updates: Option<f32>,
}

impl Stats {
    /// Count of steps so far, applied or skipped.
    pub(crate) fn executed(&self) -> u64 {
        self.step + self.skipped
    }

    /// The control block after the step, as far as the statistics tell.
    #[cfg(feature = "safetensors")]
    pub(crate) fn block(&self) -> ControlBlock {
        let mut block: ControlBlock = bytemuck::Zeroable::zeroed();
        block.step = self.step as u32;
        block.skipped = self.skipped as u32;
        block.consecutive_skipped = self.consecutive_skipped as u32;
        block.stopped = self.stopped.into();
        block.invalid_rows = self.invalid_rows.into();
        block.lr = self.lr;
        block.clip_coef = self.clip_coef;
        block.grad_norm = self.grad_norm.unwrap_or_default();
        block.loss_scale = self.loss_scale.unwrap_or_default();
        block.findings = if self.grad_norm.is_some() { NORM_MEASURED } else { 0 }
            | if self.invalid_grad_scale { INVALID_SCALE } else { 0 };
        block.missing_gradients = self.missing_gradients as u32;
        block.first_nonfinite = [NONE; 2];
        block.first_nonfinite[block.step as usize & 1] = self.first_nonfinite.map_or(NONE, |element| element as u32);
        block
    }

    /// Reads everything but the metrics from the control block.
    pub(crate) fn new(block: &ControlBlock, max_consecutive_skips: u32) -> Self {
        let first = block.first_nonfinite[block.step as usize & 1];
        Self {
            step: block.step.into(),
            skipped: block.skipped.into(),
            consecutive_skipped: block.consecutive_skipped.into(),
            too_many_skips: block.consecutive_skipped >= max_consecutive_skips,
            lr: block.lr,
            grad_norm: (block.findings & NORM_MEASURED != 0).then_some(block.grad_norm),
            clip_coef: block.clip_coef,
            loss_scale: (block.loss_scale != 0.0).then_some(block.loss_scale),
            invalid_grad_scale: block.findings & INVALID_SCALE != 0,
            first_nonfinite: (first != NONE).then_some(first.into()),
            stopped: block.stopped != 0,
            invalid_rows: block.invalid_rows != 0,
            missing_gradients: block.missing_gradients.into(),
            param_norm: None,
            update_norm: None,
            update_ratio: None,
            clipped_fraction: None,
            rule_metric: None,
            lost_updates: None,
        }
    }
}

/// A readback of the statistics of one step.
pub type ReadbackStats = Readback<Stats>;

/// The statistics of one group in one sampled step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GroupStats {
    /// Name of the group; `None` for the elements without a group.
    pub group: Option<String>,
    /// Steps applied so far.
    pub step: u64,
    /// Euclidean norm of the active gradients, after the gradient scale and before clipping, from an f32 sum of squares
    /// as for [`Stats::param_norm`]. With clipping by global norm, it is the norm of the clipped gradients divided by
    /// `clip_coef`: NaN if `clip_coef` is 0 or NaN. This field and all below are 0 for a frozen group.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub grad_norm: f32,
    /// [`Stats::param_norm`] of the group.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub param_norm: f32,
    /// [`Stats::update_norm`] of the group.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub update_norm: f32,
    /// [`Stats::update_ratio`] of the group.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub update_ratio: f32,
    /// [`Stats::clipped_fraction`] of the group.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub clipped_fraction: f32,
    /// [`Stats::rule_metric`] of the group.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub rule_metric: Option<f32>,
    /// [`Stats::lost_updates`] of the group.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub lost_updates: f32,
}
