//! The interface of update rules: [`Rule`], its [`RuleSpec`], and its capabilities.

mod capabilities;
mod elements;
mod interface;
mod math;
mod reduce_by;
mod spec;
mod step;

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

pub use capabilities::{AuxiliaryUpdates, Factored, Metric, Reduction, ScalarState, TensorState};
pub use elements::{Elements, Terms};
pub(crate) use elements::{Grads, Report, SpanView};
pub(crate) use interface::{MAX_PACKED, MAX_STATES, check_interface};
pub(crate) use math::{lerp, maximum, same_sign, sign_of};
pub use reduce_by::ReduceBy;
pub use spec::{RuleSpec, StateSpec};
pub use step::StepScalars;

use crate::Error;
use crate::error::{check, is_rate};

/// An elementwise update rule, in WGSL for the device and in Rust for the CPU engine.
///
/// The optimizer does everything else: gradient scale, clipping, finite checks, groups, schedules, step counts, bias
/// corrections, alignment. The rule receives gradients that are unscaled, clipped and, to maximize, negated.
///
/// # The WGSL
/// [`Rule::wgsl`] defines, over four elements at a time,
/// `fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element`.
/// - `Element`: `param: vec4<f32>`, and one `vec4<f32>` per state of the spec.
/// - `Hyper`: one `f32` per hyperparameter of the spec.
/// - `StepScalars`: `lr: vec4<f32>` and `weight_decay: vec4<f32>` (group options applied), `bias_correction: vec4<f32>`
///   (1 - βᵗ for each bias-corrected β), `t: u32` (the number of this applied step, from 1), and the fields that
///   capabilities add.
///
/// The WGSL may begin with imports from the crate's shaders, in WESL's syntax:
/// `import package::rule::math::{lerp, sign_of};`. Imports of the types above are optional.
///
/// # The Rust
/// [`Rule::update`] is the CPU reference: the same statements in f32. [`OptimizerBuilder::verify`] compares the two.
///
/// # Capabilities
/// A capability is a trait object that a rule returns from the method of that name. Its WGSL functions are named in its
/// documentation; a missing one is [`Error::Shader`] when the optimizer is built.
///
/// [`OptimizerBuilder::verify`]: crate::OptimizerBuilder::verify
pub trait Rule: Any + Debug + Send + Sync {
    /// Name, defaults, states and hyperparameters.
    fn spec(&self) -> RuleSpec;

    /// The WGSL that defines `rule` and the functions of the capabilities. All names share one module with the kernels;
    /// begin the names of other declarations with the rule's name. A name that a kernel declares is [`Error::Shader`].
    fn wgsl(&self) -> Cow<'_, str>;

    /// The CPU reference of the WGSL `rule`.
    fn update(&self, elements: Elements<'_>, step: &StepScalars);

    /// Refuses hyperparameters out of range. `lr`, `weight_decay` and bias-corrected betas are checked for every rule.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`].
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The rule with another momentum (the first beta of rules with betas), for schedules that cycle it:
    /// [`OneCycle`](crate::schedule::OneCycle), [`Cyclic`](crate::schedule::Cyclic). Only values of hyperparameters and
    /// of bias-corrected betas may depend on the momentum. Default: `None`, the momentum cannot be cycled.
    fn with_cycled_momentum(&self, _momentum: f64) -> Option<Arc<dyn Rule>> {
        None
    }

    /// Scalar state, which each applied step updates. Default: none.
    fn scalar_state(&self) -> Option<&dyn ScalarState> {
        None
    }

    /// Sums over tensors, units, groups or all elements. Default: none.
    fn reduction(&self) -> Option<&dyn Reduction> {
        None
    }

    /// Factors of rows and columns in place of a state per element. Requires a reduction by tensor. Default: none.
    fn factored(&self) -> Option<&dyn Factored> {
        None
    }

    /// A metric for the statistics: the fraction of elements for which a condition holds. Default: none.
    fn metric(&self) -> Option<&dyn Metric> {
        None
    }

    /// Further updates of all elements, between steps. Default: none.
    fn auxiliary_updates(&self) -> Option<&dyn AuxiliaryUpdates> {
        None
    }
}

/// Checks what every rule has in common.
pub(crate) fn validate(rule: &dyn Rule) -> Result<(), Error> {
    let spec = rule.spec();
    check_rate(&spec.name, "lr", spec.lr)?;
    check_rate(&spec.name, "weight_decay", spec.weight_decay)?;
    // Runs before the check of betas: the rule's own errors name its fields.
    rule.validate()?;
    spec.bias_corrected.iter().try_for_each(|&beta| check_beta(&spec.name, "bias_corrected", beta))
}

/// Refuses a beta outside 0 ≤ β < 1, in f32 too: 0.99999999 rounds to 1.
pub(crate) fn check_beta(owner: &str, name: &'static str, beta: f64) -> Result<(), Error> {
    check(beta >= 0.0 && (beta as f32) < 1.0, owner, name, beta, "0 <= beta < 1 (in f32)")
}

/// Refuses negative values, and values not finite in f32.
pub(crate) fn check_rate(owner: &str, name: &'static str, value: f64) -> Result<(), Error> {
    check(is_rate(value), owner, name, value, "0 or greater, finite in f32")
}

/// Refuses weights of a running average outside 0 to 1.
pub(crate) fn check_weight(owner: &str, name: &'static str, weight: f64) -> Result<(), Error> {
    check((0.0..=1.0).contains(&weight), owner, name, weight, "0 to 1")
}

/// The values of up to four named numbers, 0 beyond them.
pub(crate) fn four<N>(named: &[(N, f32)]) -> [f32; 4] {
    std::array::from_fn(|i| named.get(i).map_or(0.0, |(_, value)| *value))
}
