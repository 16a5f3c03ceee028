use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use crate::rule::{Elements, Rule, RuleSpec, StepScalars};

/// A rule in a few lines: names, numbers, one WGSL function, and its CPU reference as a closure. Rules with bias
/// corrections, capabilities or checks of hyperparameters implement [`Rule`].
///
/// `N` states and `H` hyperparameters. The closure takes parameter, gradient, states, hyperparameters and the step, and
/// returns the new parameter and states. [`OptimizerBuilder::verify`](crate::OptimizerBuilder::verify) compares
/// the two functions.
///
/// ```
/// use wgpu_optim::{Clip, CustomRule, Error, Gpu, Layout, Optimizer};
///
/// // AddSign (arXiv 1709.07417) doubles the update where gradient and running average agree in sign.
/// let add_sign = CustomRule::new(
///     "add_sign",
///     ["exp_avg"],
///     [("beta", 0.9), ("one_minus_beta", 0.1)],
///     "import package::rule::math::{sign_of};
///
///     fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
///         var updated = old;
///         updated.exp_avg = hyper.beta * old.exp_avg + hyper.one_minus_beta * grad;
///         let agreement = 1.0 + sign_of(grad) * sign_of(updated.exp_avg);
///         updated.param = old.param - step.lr * (agreement * grad);
///         return updated;
///     }",
///     |param, grad, [exp_avg], [beta, one_minus_beta], step| {
///         let exp_avg = beta * exp_avg + one_minus_beta * grad;
///         let sign_of = |value: f32| if value == 0.0 { 0.0 } else { value.signum() };
///         let agreement = 1.0 + sign_of(grad) * sign_of(exp_avg);
///         (param - step.lr * (agreement * grad), [exp_avg])
///     },
/// )
/// .with_lr(0.25);
///
/// let builder = Optimizer::builder(add_sign).clip(Clip::global_norm(1.0));
/// match pollster::block_on(Gpu::new()) {
///     Ok(gpu) => builder.verify(&gpu)?,
///     Err(Error::NoAdapter { .. }) => println!("no device: nothing compared"),
///     Err(error) => return Err(error),
/// }
/// let mut params = [1.0, 2.0];
/// builder.build_cpu(&Layout::flat(2)?)?.step(&mut params, &[0.5, 0.0])?;
/// assert_eq!(params, [0.75, 2.0]);
/// # Ok::<(), Error>(())
/// ```
pub struct CustomRule<const N: usize, const H: usize, F> {
    spec: RuleSpec,
    /// Values of the spec's hyperparameters, for `update`.
    hyperparameters: [f32; H],
    wgsl: String,
    update: F,
    states: PhantomData<[f32; N]>,
}

impl<const N: usize, const H: usize, F> CustomRule<N, H, F>
where
    F: Fn(f32, f32, [f32; N], [f32; H], &StepScalars) -> (f32, [f32; N]) + Send + Sync,
{
    /// A rule whose states start at 0, with learning rate 1e-3 and weight decay 0. `hyperparameters` are rounded to
    /// f32. `wgsl` is the source for [`Rule::wgsl`], and `update` its CPU reference for one element.
    pub fn new(
        name: impl Into<String>,
        states: [&'static str; N],
        hyperparameters: [(&'static str, f64); H],
        wgsl: impl Into<String>,
        update: F,
    ) -> Self {
        let hyperparameters = hyperparameters.map(|(name, value)| (name, value as f32));
        let spec = RuleSpec::new(name.into(), 1e-3).with_states(states).with_hyperparameters(hyperparameters);
        let hyperparameters = hyperparameters.map(|(_, value)| value);
        Self { spec, hyperparameters, wgsl: wgsl.into(), update, states: PhantomData }
    }

    /// Sets the learning rate.
    #[must_use]
    pub fn with_lr(mut self, lr: f64) -> Self {
        self.spec.lr = lr;
        self
    }

    /// Sets the weight decay. The rule reads it as `step.weight_decay` and applies it.
    #[must_use]
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.spec.weight_decay = weight_decay;
        self
    }

    /// Sets whether the step ascends.
    #[must_use]
    pub fn with_maximize(mut self, maximize: bool) -> Self {
        self.spec.maximize = maximize;
        self
    }
}

impl<const N: usize, const H: usize, F> fmt::Debug for CustomRule<N, H, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CustomRule").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl<const N: usize, const H: usize, F> Rule for CustomRule<N, H, F>
where
    F: Fn(f32, f32, [f32; N], [f32; H], &StepScalars) -> (f32, [f32; N]) + Send + Sync + 'static,
{
    fn spec(&self) -> RuleSpec {
        self.spec.clone()
    }
    fn wgsl(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.wgsl)
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        elements.each(
            #[inline(always)]
            move |param, grad, states| (self.update)(param, grad, states, self.hyperparameters, step),
        );
    }
}
