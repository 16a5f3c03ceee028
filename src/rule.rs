//! Update rules: the built-in ones, and the trait through which anyone's own takes the same way.

mod adabelief;
mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod adan;
mod ademamix;
mod lion;
mod nadam;
mod radam;
mod rmsprop;
mod rprop;
mod schedule_free;
mod sgd;
mod signsgd;
mod sophia;
mod yogi;

use std::borrow::Cow;
use std::fmt::Debug;

pub use adabelief::AdaBelief;
pub use adadelta::Adadelta;
pub use adagrad::Adagrad;
pub use adam::{Adam, AdamW};
pub use adamax::Adamax;
pub use adan::Adan;
pub use ademamix::AdEMAMix;
pub use lion::Lion;
pub use nadam::NAdam;
pub use radam::RAdam;
pub use rmsprop::RmsProp;
pub use rprop::Rprop;
pub use schedule_free::{ScheduleFreeAdamW, ScheduleFreeSgd};
pub use sgd::Sgd;
pub use signsgd::SignSgd;
pub use sophia::{Curvature, Sophia};
pub use yogi::Yogi;

use crate::Error;
use crate::error::check;
use crate::gpu::shader;
use crate::groups::is_rate;

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

    /// Names of the scalars the rule carries from one applied step to the next, with their values before the first:
    /// what is neither a hyperparameter nor kept per element. At most 4. Default none.
    fn scalars(&self) -> Vec<(&str, f32)> {
        Vec::new()
    }

    /// Makes the scalars of a step from those of the one before: the CPU twin of the WGSL
    /// `fn advance(old: Scalars, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> Scalars`, which a rule
    /// with scalars defines beside `rule`. `lr` is the schedule's, without the groups' scales.
    fn advance(&self, _scalars: &mut [f32; 4], _lr: f32, _bias_correction: [f32; 4], _t: u32) {}

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

    /// The WGSL that defines `rule`.
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
}

/// A run of elements for a rule's CPU twin: parameters, gradients and states of the same length.
#[derive(Debug)]
pub struct Elements<'a> {
    param: &'a mut [f32],
    grad: &'a [f32],
    states: &'a mut [&'a mut [f32]],
}

impl<'a> Elements<'a> {
    pub(crate) fn new(param: &'a mut [f32], grad: &'a [f32], states: &'a mut [&'a mut [f32]]) -> Self {
        Self { param, grad, states }
    }

    /// Calls `f(param, grad, states)` for each element and stores what it gives back, states in the order of
    /// [`Rule::states`].
    ///
    /// # Panics
    /// If `N` is not the number of the rule's states.
    pub fn each<const N: usize>(self, mut f: impl FnMut(f32, f32, [f32; N]) -> (f32, [f32; N])) {
        let len = self.param.len();
        let grad = &self.grad[..len];
        let param = self.param;
        let Ok(states) = <&mut [&mut [f32]; N]>::try_from(self.states) else {
            panic!("a rule's CPU twin takes exactly the states that the rule declares");
        };
        // One length that the compiler can see lets it drop the bounds checks and vectorize.
        let states = states.each_mut().map(|state| &mut state[..len]);
        for i in 0..len {
            let (new_param, new_states) = f(param[i], grad[i], std::array::from_fn(|s| states[s][i]));
            param[i] = new_param;
            for s in 0..N {
                states[s][i] = new_states[s];
            }
        }
    }
}

/// The values of a rule's scalars before the first step.
pub(crate) fn initial_scalars(rule: &dyn Rule) -> [f32; 4] {
    let mut scalars = [0.0; 4];
    for (scalar, (_, initial)) in scalars.iter_mut().zip(rule.scalars()) {
        *scalar = initial;
    }
    scalars
}

/// Checks what every rule has in common.
pub(crate) fn validate(rule: &dyn Rule) -> Result<(), Error> {
    check_rate(rule.name(), "lr", rule.lr())?;
    check_rate(rule.name(), "weight_decay", rule.weight_decay())?;
    for beta in rule.bias_corrected() {
        check_beta(rule.name(), "bias_corrected", beta)?;
    }
    rule.validate()
}

/// Refuses a beta outside 0 ≤ β < 1, in f32 too: 0.99999999 would round to 1.
fn check_beta(owner: &str, name: &'static str, beta: f64) -> Result<(), Error> {
    check(beta >= 0.0 && (beta as f32) < 1.0, owner, name, beta, "0 <= beta < 1 (in f32)")
}

/// Refuses what is negative, or not finite in f32.
fn check_rate(owner: &str, name: &'static str, value: f64) -> Result<(), Error> {
    check(is_rate(value), owner, name, value, "0 or greater, finite in f32")
}

/// Refuses what is no weight of a running average; at 1 the average stays as it began.
fn check_weight(owner: &str, name: &'static str, weight: f64) -> Result<(), Error> {
    check((0.0..=1.0).contains(&weight), owner, name, weight, "0 to 1")
}

/// 0 for zero and, as in PyTorch, for NaN, unlike [`f32::signum`]. Twin of `sign_of` in `shaders/rule/sign.wgsl`.
fn sign_of(value: f32) -> f32 {
    f32::from(value > 0.0) - f32::from(value < 0.0)
}

/// Whether both have the same sign, and neither is 0. Twin of `agree` in `shaders/rule/agree.wgsl`.
fn agree(a: f32, b: f32) -> bool {
    (a > 0.0 && b > 0.0) || (a < 0.0 && b < 0.0)
}

/// A running average. Twin of the function of the same name in `shaders/rule/average.wgsl`.
fn average(old: f32, value: f32, beta: f32, one_minus_beta: f32) -> f32 {
    if one_minus_beta <= 0.5 {
        return old + one_minus_beta * (value - old);
    }
    beta * old + one_minus_beta * value
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
use common_options;

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
use setters;

/// The WGSL of every kernel an optimizer with this rule may run, with a label each: for other tools, and for a look.
///
/// # Errors
/// [`Error::RuleInterface`].
pub fn shader_sources(rule: &dyn Rule) -> Result<Vec<(String, String)>, Error> {
    shader::check_interface(rule)?;
    let kernels = [("aligned", true), ("unaligned", false)].into_iter().flat_map(|(label, aligned)| {
        let update = (format!("update {label}"), shader::update(rule, "rule", aligned));
        let pass = move |pass| (format!("{pass} {label}"), shader::update(rule, pass, aligned));
        let norm = (format!("norm {label}"), shader::norm(aligned));
        [update, norm].into_iter().chain(rule.passes().into_iter().map(pass))
    });
    Ok(kernels.chain([("finish".to_owned(), shader::finish(rule))]).collect())
}
