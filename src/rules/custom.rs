use std::borrow::Cow;
use std::fmt;

use crate::rule::{Elements, Rule, Step, setters};

/// A rule in a few lines: names, numbers, one WGSL function, and its twin as a closure. What it has no room for
/// (bias corrections, scalars, passes, checks of hyperparameters) takes an implementation of [`Rule`].
///
/// `N` states and `H` hyperparameters; the closure is given parameter, gradient, states, hyperparameters and the step,
/// and gives back the new parameter and states. [`OptimizerBuilder::verify`](crate::OptimizerBuilder::verify) compares
/// the two functions.
pub struct CustomRule<const N: usize, const H: usize, F> {
    name: String,
    states: [&'static str; N],
    hyperparameters: [(&'static str, f32); H],
    wgsl: String,
    update: F,
    lr: f64,
    weight_decay: f64,
    maximize: bool,
}

impl<const N: usize, const H: usize, F> CustomRule<N, H, F>
where
    F: Fn(f32, f32, [f32; N], [f32; H], &Step) -> (f32, [f32; N]) + Send + Sync,
{
    /// A rule that begins with states of 0, with a learning rate of 1e-3 and no weight decay. `hyperparameters` are
    /// rounded to f32. `wgsl` is as [`Rule::wgsl`] says, and `update` its twin for one element.
    pub fn new(
        name: impl Into<String>,
        states: [&'static str; N],
        hyperparameters: [(&'static str, f64); H],
        wgsl: impl Into<String>,
        update: F,
    ) -> Self {
        let hyperparameters = hyperparameters.map(|(name, value)| (name, value as f32));
        let (name, wgsl) = (name.into(), wgsl.into());
        Self { name, states, hyperparameters, wgsl, update, lr: 1e-3, weight_decay: 0.0, maximize: false }
    }

    setters! {
        /// Sets the learning rate.
        with_lr(lr: f64),
        /// Sets the weight decay, which the rule is given as `step.weight_decay` and applies itself.
        with_weight_decay(weight_decay: f64),
        /// Switches the direction.
        with_maximize(maximize: bool),
    }
}

impl<const N: usize, const H: usize, F> fmt::Debug for CustomRule<N, H, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rule = formatter.debug_struct("CustomRule");
        rule.field("name", &self.name).field("states", &self.states).field("hyperparameters", &self.hyperparameters);
        rule.field("lr", &self.lr).field("weight_decay", &self.weight_decay).field("maximize", &self.maximize);
        rule.finish_non_exhaustive()
    }
}

impl<const N: usize, const H: usize, F> Rule for CustomRule<N, H, F>
where
    F: Fn(f32, f32, [f32; N], [f32; H], &Step) -> (f32, [f32; N]) + Send + Sync,
{
    fn name(&self) -> &str {
        &self.name
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
    fn states(&self) -> Vec<&str> {
        self.states.to_vec()
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        self.hyperparameters.to_vec()
    }
    fn wgsl(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.wgsl)
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let hyperparameters = self.hyperparameters.map(|(_, value)| value);
        elements.each(
            #[inline(always)]
            move |param, grad, states| (self.update)(param, grad, states, hyperparameters, step),
        );
    }
}
