use super::{Elements, ReduceBy, StepScalars, Terms};

/// Scalar state: up to four numbers for the whole optimizer, which each applied step updates.
///
/// The WGSL reads them as `step.scalar_state` and defines
/// `fn update_scalars(old: ScalarState, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> ScalarState`, with
/// one `f32` field per scalar.
pub trait ScalarState {
    /// Names of the scalars with their values before the first step, at most four.
    fn initial_scalars(&self) -> Vec<(&'static str, f32)>;

    /// The CPU reference of `update_scalars`, once per applied step. `lr` is the schedule's, without group scales.
    fn update_scalars(&self, scalars: &mut [f32; 4], lr: f32, bias_correction: [f32; 4], t: u32);
}

/// Sums over segments that a rule reads in its update: norms of tensors, for instance.
///
/// The WGSL defines `fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums`, the
/// summands of four elements, one `vec4<f32>` field per sum. `rule` reads the totals in `step.sums`; `terms` finds zeros
/// there. Frozen elements and padding do not count.
///
/// A step then takes five dispatches, three of them per chunk: the norm (per chunk), the decision, the sums over
/// segment parts (per chunk), the sums over segments, and the update (per chunk).
pub trait Reduction {
    /// Names of the sums, at most four.
    ///
    /// They are plain f32 sums in a fixed order: n squares of numbers above √(3.4e38 / n) overflow, squares of numbers
    /// below 1e-19 underflow.
    fn sums(&self) -> Vec<&'static str>;

    /// The segments of the sums. Default: each tensor.
    fn by(&self) -> ReduceBy {
        ReduceBy::Tensor
    }

    /// The CPU reference of `terms`.
    fn terms(&self, elements: Terms<'_>, step: &StepScalars);

    /// The state of each segment. Default: none.
    fn tensor_state(&self) -> Option<&dyn TensorState> {
        None
    }
}

/// Tensor state: up to four numbers per segment of a [`Reduction`], which each applied step updates.
///
/// The WGSL reads them as `step.tensor_state` and defines
/// `fn update_tensor_state(old: TensorState, sums: SegmentSums, lr: f32, hyper: Hyper, bias_correction: vec4<f32>,
/// t: u32, is_first: bool) -> TensorState`, once per segment and applied step, with equal numbers in all four lanes.
/// `terms` finds the state of the step before, `rule` the updated one.
pub trait TensorState {
    /// Names of the numbers with their values before the first step, at most four.
    fn initial_tensor_state(&self) -> Vec<(&'static str, f32)>;

    /// The CPU reference of `update_tensor_state`. `lr` is the schedule's, without group scales; `is_first` is
    /// [`StepScalars::is_first`](super::StepScalars::is_first).
    fn update_tensor_state(
        &self,
        state: &mut [f32; 4],
        sums: [f32; 4],
        lr: f32,
        bias_correction: [f32; 4],
        t: u32,
        is_first: bool,
    );
}

/// Running means of squared gradients as factors, in place of a state per element: one per row and per column of a
/// tensor's last two dimensions (`row_var`, `col_var`, PyTorch's names and shapes), one per element of vectors and
/// scalars (`variance`).
///
/// `rule` and `terms` read the updated variance of an element in `old.variance`: `variance` itself, or
/// `row_var / mean(row_var) * col_var` with the mean over the rows of the matrix. What they write there is discarded. On
/// the CPU the variance is one more state behind the others. The WGSL defines
/// `fn update_factor(old: f32, mean_sq: f32, hyper: Hyper, scalar_state: ScalarState, t: u32) -> f32` and
/// `fn floor_mean(mean: f32, hyper: Hyper) -> f32`, the divisor in place of the mean.
///
/// Frozen elements count as gradients of 0; a tensor without an active element keeps its factors. A row or column is
/// summed in partials of 64 elements, up to 64 partials at a time. A step takes three dispatches more: the partials (one
/// per chunk), the factors, the means.
pub trait Factored {
    /// Whether tensors of that many rows and columns have factors, or one `variance` per element as vectors have.
    /// Default: all have factors.
    fn factors_matrix(&self, _rows: usize, _columns: usize) -> bool {
        true
    }

    /// Whether there is one factor (`row_var`) per index of the first dimension, and nothing else: the variance of all
    /// elements of the row. Requires [`Rows`](crate::Rows), and no sums over tensors. Inactive rows keep theirs. Default: false.
    fn factors_rows(&self) -> bool {
        false
    }

    /// The CPU reference of `update_factor`.
    fn update_factor(&self, old: f32, mean_sq: f32, scalar_state: [f32; 4], t: u32) -> f32;

    /// The CPU reference of `floor_mean`.
    fn floor_mean(&self, mean: f32) -> f32;
}

/// A metric for the statistics: the fraction of elements for which a condition holds, as
/// [`Stats::rule_metric`](crate::Stats::rule_metric) of sampled steps.
///
/// The WGSL defines `fn metric(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<bool>`, called with
/// the arguments of `rule`: which elements count.
pub trait Metric {
    /// The CPU reference of `metric`: the term is 1 for an element for which the condition holds, else 0.
    fn metric(&self, elements: Terms<'_>, step: &StepScalars);
}

/// Further updates of all elements, between steps:
/// [`Optimizer::auxiliary_update`](crate::Optimizer::auxiliary_update).
///
/// The WGSL defines one function per name, in the form of `rule`, with the caller's input in place of the gradient.
pub trait AuxiliaryUpdates {
    /// Names of the updates and of their WGSL functions.
    fn auxiliary_names(&self) -> &'static [&'static str];

    /// The CPU reference of the update of that name.
    fn auxiliary_update(&self, name: &str, elements: Elements<'_>, step: &StepScalars);
}
