use std::borrow::Cow;

use crate::storage::{Dtype, Moment};

/// The declarative part of a rule: names, defaults, states, hyperparameters and constants.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RuleSpec {
    /// Name in error messages, labels and configuration files: `adamw`.
    pub name: Cow<'static, str>,
    /// Learning rate of an optimizer without a schedule.
    pub lr: f64,
    /// Weight decay of every group that sets none. Default 0.
    pub weight_decay: f64,
    /// Whether the step ascends. Default false.
    pub maximize: bool,
    /// Per-element states. A device with wgpu's default limits binds four beside parameters and gradients.
    pub states: Vec<StateSpec>,
    /// Fields of the WGSL `Hyper`, with their values; at most 60.
    pub hyperparameters: Vec<(Cow<'static, str>, f32)>,
    /// Values of the WGSL `override` constants.
    pub constants: Vec<(Cow<'static, str>, f64)>,
    /// Betas whose 1 - βᵗ the rule reads, at most four.
    pub bias_corrected: Vec<f64>,
}

impl RuleSpec {
    /// A rule without states, hyperparameters, constants and bias corrections.
    pub fn new(name: impl Into<Cow<'static, str>>, lr: f64) -> Self {
        Self {
            name: name.into(),
            lr,
            weight_decay: 0.0,
            maximize: false,
            states: Vec::new(),
            hyperparameters: Vec::new(),
            constants: Vec::new(),
            bias_corrected: Vec::new(),
        }
    }

    /// Sets [`RuleSpec::weight_decay`].
    #[must_use]
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Sets [`RuleSpec::maximize`].
    #[must_use]
    pub fn with_maximize(mut self, maximize: bool) -> Self {
        self.maximize = maximize;
        self
    }

    /// Sets [`RuleSpec::states`].
    #[must_use]
    pub fn with_states<S: Into<StateSpec>>(mut self, states: impl IntoIterator<Item = S>) -> Self {
        self.states = states.into_iter().map(Into::into).collect();
        self
    }

    /// Sets [`RuleSpec::hyperparameters`].
    #[must_use]
    pub fn with_hyperparameters<N: Into<Cow<'static, str>>>(
        mut self,
        hyperparameters: impl IntoIterator<Item = (N, f32)>,
    ) -> Self {
        self.hyperparameters = hyperparameters.into_iter().map(|(name, value)| (name.into(), value)).collect();
        self
    }

    /// Sets [`RuleSpec::constants`]; numbers and flags (0 or 1) alike.
    #[must_use]
    pub fn with_constants<N: Into<Cow<'static, str>>, V: Into<f64>>(
        mut self,
        constants: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.constants = constants.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self
    }

    /// Sets [`RuleSpec::constants`] from flags.
    #[must_use]
    pub fn with_flags<N: Into<Cow<'static, str>>>(self, flags: impl IntoIterator<Item = (N, bool)>) -> Self {
        self.with_constants(flags.into_iter().map(|(name, flag)| (name, u8::from(flag))))
    }

    /// Sets [`RuleSpec::bias_corrected`].
    #[must_use]
    pub fn with_bias_corrected(mut self, betas: impl IntoIterator<Item = f64>) -> Self {
        self.bias_corrected = betas.into_iter().collect();
        self
    }

    /// The states that are present with the rule's current options.
    pub(crate) fn present_states(&self) -> impl Iterator<Item = &StateSpec> + Clone {
        self.states.iter().filter(|state| state.present)
    }
}

/// A per-element state of a rule, such as `exp_avg`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StateSpec {
    /// Name of the field in the WGSL `Element`, and in [`Optimizer::state`](crate::Optimizer::state): `exp_avg`.
    pub name: Cow<'static, str>,
    /// Storage format. A rule states [`Dtype::F32`], the default; [`Precision`](crate::Precision) states others.
    pub dtype: Dtype,
    /// Value before the first step. Default 0.
    pub initial: f32,
    /// Whether the rule keeps the state with its present options. The WGSL field of an absent state is 0, takes no
    /// memory, and is not stored; [`Elements::each`](super::Elements::each) leaves it out. Default true.
    pub present: bool,
    /// Whether the state is itself a parameter, such as an average of parameters. It begins as the parameter, moves with the
    /// parameters in a [`remap`](crate::Optimizer::remap), and equals the parameter in new rows. Default false.
    pub is_param: bool,
    /// The kind of moment, if [`Precision`](crate::Precision) may store the state in 8 bits. It begins at 0 then. Default
    /// `None`.
    pub moment: Option<Moment>,
}

impl StateSpec {
    /// An f32 state that begins at 0.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), dtype: Dtype::F32, initial: 0.0, present: true, is_param: false, moment: None }
    }

    /// A state that begins at 0, as an average of gradients or updates: 8 bits may store it, with a sign.
    pub fn first_moment(name: impl Into<Cow<'static, str>>) -> Self {
        Self { moment: Some(Moment::First), ..Self::new(name) }
    }

    /// A state that begins at 0, as an average of squares or another denominator, 0 or greater: 8 bits may store it.
    pub fn second_moment(name: impl Into<Cow<'static, str>>) -> Self {
        Self { moment: Some(Moment::Second), ..Self::new(name) }
    }

    /// Sets [`StateSpec::initial`].
    #[must_use]
    pub fn with_initial(mut self, initial: f32) -> Self {
        self.initial = initial;
        self
    }

    /// Sets [`StateSpec::is_param`].
    #[must_use]
    pub fn as_param(mut self) -> Self {
        self.is_param = true;
        self
    }

    /// Sets [`StateSpec::present`].
    #[must_use]
    pub fn only_if(mut self, present: bool) -> Self {
        self.present = present;
        self
    }
}

impl From<&'static str> for StateSpec {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}
