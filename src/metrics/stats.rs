use crate::kernels::control::{ControlBlock, INVALID_SCALE, NONE, NORM_MEASURED};

/// The statistics of one executed step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
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
    pub lr: f32,
    /// Norm of the gradients after the gradient scale and before clipping, of the order of
    /// [`GlobalNorm::norm_type`](crate::clip::GlobalNorm::norm_type) (default: Euclidean). `None` in a single-pass step.
    /// NaN or infinite if a gradient is, and infinite beyond f32.
    pub grad_norm: Option<f32>,
    /// Coefficient of clipping by the global norm; 1 without it.
    pub clip_coef: f32,
    /// Whether the gradient scale in a device buffer was not positive or had no normal inverse. Such a step counts as one
    /// with a non-finite gradient.
    pub invalid_grad_scale: bool,
    /// Flat index of the first gradient that was NaN or infinite.
    pub first_nonfinite: Option<u64>,
    /// Whether [`NonFinite::Stop`](crate::NonFinite::Stop) has stopped the optimizer.
    pub stopped: bool,
    /// Euclidean norm of the active parameters before the step. This and all below exist for applied steps that
    /// [`HistoryOptions::with_norms_every`](crate::history::HistoryOptions::with_norms_every) samples. They come from plain
    /// f32 sums of squares: numbers above about 1e19 make them infinite, numbers below 1e-19 add nothing.
    pub param_norm: Option<f32>,
    /// Euclidean norm of the step's change of the parameters, weight decay included. Shader compilers choose whether the
    /// change is that before or after rounding to f32.
    pub update_norm: Option<f32>,
    /// `update_norm` over `param_norm`; infinite where all parameters were 0 and no longer are.
    pub update_ratio: Option<f32>,
    /// Share of the active elements, from 0 to 1, whose gradient was clipped; by a global norm all or none.
    pub clipped_fraction: Option<f32>,
    /// Share of the active elements for which the rule's [`Metric`](crate::rule::Metric) holds:
    /// [`Sophia`](crate::Sophia)'s win rate, [`Lion`](crate::Lion)'s sign agreement.
    pub rule_metric: Option<f32>,
}

impl Stats {
    /// Steps that ran so far, applied or skipped.
    pub(crate) fn executed(&self) -> u64 {
        self.step + self.skipped
    }

    /// Without the metrics of sampled steps.
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
            invalid_grad_scale: block.findings & INVALID_SCALE != 0,
            first_nonfinite: (first != NONE).then_some(first.into()),
            stopped: block.stopped != 0,
            param_norm: None,
            update_norm: None,
            update_ratio: None,
            clipped_fraction: None,
            rule_metric: None,
        }
    }
}
