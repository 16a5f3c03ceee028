//! Update rules: the built-in ones, and the trait through which anyone's own takes the same way.

mod elements;

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

pub use crate::gpu::shader::shader_sources;
pub use crate::rules::*;
pub(crate) use elements::Grads;
pub use elements::{Elements, MeasuredElements};

use crate::Error;
use crate::error::check;
use crate::error::is_rate;

/// An elementwise update rule, in WGSL for the device and in Rust for the CPU engine.
///
/// The harness around it does everything else: gradient scale, clipping, finite checks, groups, schedules, step
/// counts and bias corrections, alignment and tails. A rule sees four elements at a time (WGSL) or a slice (Rust),
/// with the gradient already scaled, clipped and, to maximize, negated.
///
/// # The WGSL side
/// [`Rule::wgsl`] defines `fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element`, where
/// - `Element` has `param: vec4<f32>` and one `vec4<f32>` per name in [`Rule::states`];
/// - `Hyper` has one `f32` per name in [`Rule::hyperparameters`];
/// - `Step` has `lr: vec4<f32>` and `weight_decay: vec4<f32>` (group options applied),
///   `bias_correction: vec4<f32>` (1 - βᵗ for each β in [`Rule::bias_corrected`]), `t: u32` (1 at the first applied
///   step) and `scalars: Scalars` (one `f32` per name in [`Rule::scalars`]).
///
/// # Sums over tensors
/// A rule with [`Rule::measures`] also defines
/// `fn measure(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Measured`: what the four elements add to the
/// sums, one `vec4<f32>` per name. `rule` finds the sums over each element's tensor in `step.measured: Measured`, and in
/// `step.tensor: TensorState` what it keeps of the tensor, one `vec4<f32>` per name in [`Rule::tensor_states`]; `measure`
/// itself finds zeros in the first and the step before in the second. Frozen elements and padding do not count.
///
/// A rule with [`Rule::tensor_states`] also defines `fn settle(old: TensorState, measured: Measured, lr: f32, hyper: Hyper,
/// bias_correction: vec4<f32>, t: u32) -> TensorState`, which brings them forward once per tensor and applied step, with the
/// same numbers in all four lanes.
///
/// Steps of such a rule take one dispatch more per chunk to sum and one to add up, beside the three of a step that is not
/// bare.
///
/// # The Rust side
/// [`Rule::update`] says the same in f32, statement by statement. See `examples/custom_rule`.
pub trait Rule: Debug + Send + Sync {
    /// Name in error messages and labels: `adamw`.
    fn name(&self) -> &str;

    /// Learning rate where the optimizer has no schedule.
    fn lr(&self) -> f64;

    /// Weight decay of every group that does not set its own. Default 0.
    fn weight_decay(&self) -> f64 {
        0.0
    }

    /// Whether the gradient is followed upwards. Default false.
    fn maximize(&self) -> bool {
        false
    }

    /// Names of the states, one f32 per parameter each. A device with wgpu's default limits holds 4 beside parameters
    /// and gradients.
    fn states(&self) -> Vec<&str>;

    /// What a state holds before the first step. Default 0.
    fn initial_state(&self, _state: &str) -> f32 {
        0.0
    }

    /// Hyperparameters the WGSL reads as fields of `Hyper`, rounded to f32. At most 60.
    fn hyperparameters(&self) -> Vec<(&str, f32)>;

    /// Values of the WGSL's `override` constants. Default none.
    fn constants(&self) -> Vec<(&str, f64)> {
        Vec::new()
    }

    /// The betas whose 1 - βᵗ the rule wants, at most 4. Default none.
    fn bias_corrected(&self) -> Vec<f64> {
        Vec::new()
    }

    /// The same rule with another momentum, which is the first beta of rules with betas, for schedules that cycle it
    /// ([`OneCycle`](crate::schedule::OneCycle), [`Cyclic`](crate::schedule::Cyclic)). Nothing but the values of
    /// [`Rule::hyperparameters`] and [`Rule::bias_corrected`] may depend on it, as long as it is above 0. Default: none.
    fn with_cycled_momentum(&self, _momentum: f64) -> Option<Arc<dyn Rule>> {
        None
    }

    /// Names of the scalars the rule carries from one applied step to the next, with their values before the first:
    /// what is neither a hyperparameter nor kept per element. At most 4. Default none.
    fn scalars(&self) -> Vec<(&str, f32)> {
        Vec::new()
    }

    /// Makes the scalars of a step from those of the one before: the CPU twin of the WGSL
    /// `fn advance(old: Scalars, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> Scalars`, which a rule
    /// with scalars defines beside `rule`. `lr` is the schedule's, without the groups' scales.
    fn advance(&self, _scalars: &mut [f32; 4], _lr: f32, _bias_correction: [f32; 4], _t: u32) {}

    /// Names of the f32 sums over each tensor that the rule wants. At most 4. Default none.
    ///
    /// They are plain f32 sums in a fixed order: n squares of numbers above √(3.4e38 / n) overflow, and those of numbers
    /// below 1e-19 vanish.
    fn measures(&self) -> Vec<&str> {
        Vec::new()
    }

    /// What the sums go over. Default: each tensor.
    fn segmentation(&self) -> Segmentation {
        Segmentation::Tensors
    }

    /// The CPU twin of the WGSL `measure`.
    fn measure(&self, _elements: MeasuredElements<'_>, _step: &Step) {}

    /// Names of the f32 that the rule keeps of each tensor, with their values before the first step. Only for rules with
    /// [`Rule::measures`]. At most 4. Default none.
    fn tensor_states(&self) -> Vec<(&str, f32)> {
        Vec::new()
    }

    /// The CPU twin of the WGSL `settle`: brings the states of a tensor forward. `lr` is the schedule's, without the
    /// groups' scales.
    fn settle(&self, _state: &mut [f32; 4], _measured: [f32; 4], _lr: f32, _bias_correction: [f32; 4], _t: u32) {}

    /// Whether the rule keeps, in place of a state per element, running means of squared gradients as factors: of each row
    /// and each column of the last two dimensions of a tensor (states `row_var` and `col_var`, PyTorch's names and shapes),
    /// and of each element of vectors and scalars (`variance`). Only for rules with [`Rule::measures`] and
    /// [`Segmentation::Tensors`]. Default false.
    ///
    /// Such a rule finds in `old.variance` what the factors say of an element, brought forward: `variance`, or
    /// `row_var / mean(row_var) * col_var`, the mean over the rows of its matrix. What it writes there is lost. The WGSL
    /// defines `fn settle_factor(old: f32, mean_sq: f32, hyper: Hyper, scalars: Scalars, t: u32) -> f32`, which brings a
    /// factor forward, and `fn floor_mean(mean: f32, hyper: Hyper) -> f32`, what to divide by in place of the mean. In
    /// [`Rule::update`] and [`Rule::measure`] the variance is one more state behind the others.
    ///
    /// Frozen elements count as gradients of 0, in tensors of which none is live the factors stay as they are. A line of up to
    /// 64 elements is summed in order, a longer one in pieces of 64, up to 64 of which are added up before they are added to
    /// the others. A step takes three dispatches more: the pieces (one per chunk), the factors, the means.
    fn factored(&self) -> bool {
        false
    }

    /// Whether tensors whose last two dimensions are of that size have factors of rows and columns, or a `variance` of each
    /// element as vectors have. Default: they all have factors.
    fn factors_matrix(&self, _rows: usize, _columns: usize) -> bool {
        true
    }

    /// The CPU twin of the WGSL function of that name.
    fn settle_factor(&self, old: f32, _mean_sq: f32, _scalars: [f32; 4], _t: u32) -> f32 {
        old
    }

    /// The CPU twin of the WGSL function of that name.
    fn floor_mean(&self, mean: f32) -> f32 {
        mean
    }

    /// Whether a history keeps a share of elements for the rule ([`Stats::rule_fraction`](crate::Stats)): of those for which
    /// the WGSL `fn count(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<bool>` is true, called with what
    /// `rule` is called with. Default false.
    fn counts(&self) -> bool {
        false
    }

    /// The CPU twin of the WGSL `count`: adds 1 for each element for which it is true.
    fn count(&self, _elements: MeasuredElements<'_>, _step: &Step) {}

    /// Names of further WGSL functions of the form of `rule`, which [`Optimizer::run_pass`](crate::Optimizer::run_pass)
    /// applies to all elements between steps. Default none.
    fn passes(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// The CPU twin of a pass.
    fn update_pass(&self, _pass: &str, _elements: Elements<'_>, _step: &Step) {}

    /// Refuses hyperparameters out of range. `lr` and `weight_decay` are checked for every rule.
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The WGSL that defines `rule`. Begin the names of whatever else it declares with the rule's: it is compiled together
    /// with the kernels. A name that a kernel has declared is [`Error::Shader`] when the optimizer is built, or, for kernels
    /// that only some layouts take, wgpu's validation error with the first step.
    fn wgsl(&self) -> Cow<'_, str>;

    /// The CPU twin of the WGSL.
    fn update(&self, elements: Elements<'_>, step: &Step);
}

/// The scalars of one step, as a rule's CPU twin sees them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Learning rate, the group's scale applied.
    pub lr: f32,
    /// Weight decay of the group.
    pub weight_decay: f32,
    /// 1 - βᵗ for each β in [`Rule::bias_corrected`]; 1 beyond them.
    pub bias_correction: [f32; 4],
    /// Number of this applied step, from 1.
    pub t: u32,
    /// The rule's own, in the order of [`Rule::scalars`].
    pub scalars: [f32; 4],
    /// Sums over the elements' tensor, in the order of [`Rule::measures`].
    pub measured: [f32; 4],
    /// States of the elements' tensor, in the order of [`Rule::tensor_states`].
    pub tensor: [f32; 4],
}

/// What the sums of a rule go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Segmentation {
    /// Each tensor of the layout has sums and states of its own.
    Tensors,
    /// Each index of a tensor's first dimension: the weights of one unit of a layer. Tensors of one dimension or none are
    /// one unit.
    Units,
    /// Each group of the layout; elements without one share another.
    Groups,
    /// All tensors share one.
    Whole,
}

/// What a rule's scalars, or its states of a tensor, are before the first step.
pub(crate) fn initial(named: &[(&str, f32)]) -> [f32; 4] {
    let mut values = [0.0; 4];
    for (value, (_, initial)) in values.iter_mut().zip(named) {
        *value = *initial;
    }
    values
}

/// Checks what every rule has in common.
pub(crate) fn validate(rule: &dyn Rule) -> Result<(), Error> {
    check_rate(rule.name(), "lr", rule.lr())?;
    check_rate(rule.name(), "weight_decay", rule.weight_decay())?;
    // First, because it knows the names of the betas.
    rule.validate()?;
    for beta in rule.bias_corrected() {
        check_beta(rule.name(), "bias_corrected", beta)?;
    }
    Ok(())
}

/// Refuses a beta outside 0 ≤ β < 1, in f32 too: 0.99999999 would round to 1.
pub(crate) fn check_beta(owner: &str, name: &'static str, beta: f64) -> Result<(), Error> {
    check(beta >= 0.0 && (beta as f32) < 1.0, owner, name, beta, "0 <= beta < 1 (in f32)")
}

/// Refuses what is negative, or not finite in f32.
pub(crate) fn check_rate(owner: &str, name: &'static str, value: f64) -> Result<(), Error> {
    check(is_rate(value), owner, name, value, "0 or greater, finite in f32")
}

/// Refuses what is no weight of a running average; at 1 the average stays as it began.
pub(crate) fn check_weight(owner: &str, name: &'static str, weight: f64) -> Result<(), Error> {
    check((0.0..=1.0).contains(&weight), owner, name, weight, "0 to 1")
}

/// 0 for zero and, as in PyTorch, for NaN, unlike [`f32::signum`]. Twin of `sign_of` in `shaders/rule/sign.wgsl`.
#[inline(always)]
pub(crate) fn sign_of(value: f32) -> f32 {
    f32::from(value > 0.0) - f32::from(value < 0.0)
}

/// Whether both have the same sign, and neither is 0. Twin of `agree` in `shaders/rule/agree.wgsl`.
#[inline(always)]
pub(crate) fn agree(a: f32, b: f32) -> bool {
    (a > 0.0 && b > 0.0) || (a < 0.0 && b < 0.0)
}

/// The larger of numbers that are not negative, and NaN where one is. Twin of `maximum` in `shaders/rule/maximum.wgsl`.
#[inline(always)]
pub(crate) fn maximum(a: f32, b: f32) -> f32 {
    f32::from_bits(a.to_bits().max(b.to_bits()))
}

/// A running average. Twin of the function of the same name in `shaders/rule/average.wgsl`.
#[inline(always)]
pub(crate) fn average(old: f32, value: f32, beta: f32, one_minus_beta: f32) -> f32 {
    let stepped = old + one_minus_beta * (value - old);
    let weighted = beta * old + one_minus_beta * value;
    if one_minus_beta <= 0.5 { stepped } else { weighted }
}

/// What [`Rule`] asks of rules with the fields `lr`, `weight_decay` and `maximize`.
macro_rules! common_options {
    ($name:literal) => {
        fn name(&self) -> &'static str {
            $name
        }
        fn lr(&self) -> f64 {
            self.lr
        }
        fn weight_decay(&self) -> f64 {
            self.weight_decay
        }
        fn maximize(&self) -> bool {
            self.maximize
        }
    };
}
pub(crate) use common_options;

/// [`Rule::with_cycled_momentum`], given the field.
macro_rules! cycles {
    ($($field:tt)+) => {
        fn with_cycled_momentum(&self, momentum: f64) -> Option<std::sync::Arc<dyn crate::rule::Rule>> {
            let mut rule = self.clone();
            rule.$($field)+ = momentum;
            Some(std::sync::Arc::new(rule))
        }
    };
}
pub(crate) use cycles;

/// One `with_…` method per hyperparameter.
macro_rules! setters {
    ($($(#[$doc:meta])* $method:ident($name:ident: $type:ty)),* $(,)?) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $method(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        })*
    };
}
pub(crate) use setters;
