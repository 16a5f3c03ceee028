use std::ops::Range;
use std::sync::Arc;

use crate::kernels::norm_order::NormOrder;
use crate::metrics::HistoryOptions;
use crate::rule::Rule;
use crate::transform::{Average, ClipSegment, ClipValue, Lookahead, Sam};
use crate::{Clip, GradScaler, GroupOptions, NonFinite, Precision, Rows, Schedule};

/// The settings of an optimizer, as its builder collects them.
#[derive(Debug, Clone)]
pub(crate) struct PlanSettings {
    pub(crate) rule: Arc<dyn Rule>,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) clip: Option<Clip>,
    pub(crate) lookahead: Option<Lookahead>,
    pub(crate) average: Option<Average>,
    pub(crate) sam: Option<Sam>,
    pub(crate) on_nonfinite: Option<NonFinite>,
    pub(crate) max_consecutive_skips: u32,
    pub(crate) history: Option<HistoryOptions>,
    pub(crate) groups: Vec<(String, GroupOptions)>,
    pub(crate) precision: Precision,
    pub(crate) accumulates: bool,
    /// The rows that come and go, if there are any.
    pub(crate) rows: Option<Rows>,
    pub(crate) grad_scaler: Option<GradScaler>,
    /// Whether steps may lack gradients of tensors.
    pub(crate) misses_gradients: bool,
    /// A momentum that is cycled without a schedule that does so: one was replaced by a learning rate.
    pub(crate) momentum: Option<f64>,
    /// The elements whose states lie here and that steps update; all unless other ranks have the rest.
    pub(crate) share: Option<Range<usize>>,
}

impl PlanSettings {
    pub(crate) fn new(rule: Arc<dyn Rule>) -> Self {
        Self {
            rule,
            schedule: None,
            clip: None,
            lookahead: None,
            average: None,
            sam: None,
            on_nonfinite: None,
            max_consecutive_skips: u32::MAX,
            history: None,
            groups: Vec::new(),
            precision: Precision::default(),
            accumulates: false,
            rows: None,
            grad_scaler: None,
            misses_gradients: false,
            momentum: None,
            share: None,
        }
    }
}

/// Clipping by one norm over all gradients.
#[derive(Debug, Clone, Copy)]
pub(super) struct NormClip {
    pub(super) order: NormOrder,
    /// Whether the norm is computed whatever else the step does.
    pub(super) is_computed: bool,
    /// The maximum norm, or the fraction of the percentile; `None` clips nothing.
    pub(super) limit: Option<f32>,
    pub(super) exact: bool,
    pub(super) window: Option<u32>,
}

/// Splits a clip into clipping by one norm, by value, and by segment norms.
pub(super) fn split_clip(clip: Option<Clip>) -> (NormClip, Option<ClipValue>, Option<ClipSegment>) {
    let norm = |norm_type, limit, exact, window| NormClip {
        order: NormOrder::new(norm_type),
        is_computed: true,
        limit,
        exact,
        window,
    };
    let none = NormClip { is_computed: false, ..norm(2.0, None, false, None) };
    match clip {
        Some(Clip::GlobalNorm(clip)) => {
            let limit = clip.max_norm.is_finite().then_some((clip.max_norm as f32).min(f32::MAX));
            (norm(clip.norm_type, limit, clip.exact, None), None, None)
        }
        Some(Clip::Percentile(clip)) => {
            let fraction = (clip.percentile / 100.0) as f32;
            (norm(clip.norm_type, Some(fraction), clip.exact, Some(clip.window)), None, None)
        }
        Some(Clip::Value(clip)) => (none, Some(ClipValue { bound: clip.clip_value as f32 }), None),
        Some(Clip::GroupNorm(clip)) => (none, None, Some(ClipSegment::by_group(&clip))),
        Some(Clip::Adaptive(clip)) => (none, None, Some(ClipSegment::adaptive(&clip))),
        None => (none, None, None),
    }
}
