use std::borrow::Cow;

use crate::Error;
use crate::rule::{Elements, Rule, Step, average, check_beta, common_options, setters, sign_of};

/// `SignSGD` and, with momentum, Signum (Bernstein et al. 2018, arXiv 1802.04434), as `optax.sign_sgd` and
/// `optax.signum`.
///
/// `param *= 1 - lr·weight_decay`; `param -= lr·sign(grad)` with sign(0) = 0, or with momentum
/// `momentum_buffer = momentum·momentum_buffer + (1 - momentum)·grad` in the gradient's place.
///
/// State: none, or with momentum 4 bytes per parameter (`momentum_buffer`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct SignSgd {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// Decay rate of the gradient's running average, 0 ≤ momentum < 1; default 0. Signum's is 0.9.
    pub momentum: f64,
    /// Decoupled weight decay, as `optax.add_decayed_weights` before the learning rate; default 0.
    pub weight_decay: f64,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for SignSgd {
    fn default() -> Self {
        Self { lr: 1e-3, momentum: 0.0, weight_decay: 0.0, maximize: false }
    }
}

impl SignSgd {
    setters! {
        /// Sets [`SignSgd::lr`].
        with_lr(lr: f64),
        /// Sets [`SignSgd::momentum`].
        with_momentum(momentum: f64),
        /// Sets [`SignSgd::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`SignSgd::maximize`].
        with_maximize(maximize: bool),
    }

    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }

    /// momentum, 1 - momentum.
    fn rounded(&self) -> [f32; 2] {
        [self.momentum as f32, (1.0 - self.momentum) as f32]
    }
}

impl Rule for SignSgd {
    common_options!("signsgd");

    fn states(&self) -> Vec<&str> {
        if self.has_momentum() { vec!["momentum_buffer"] } else { Vec::new() }
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        let names: &[&str] = if self.has_momentum() { &["momentum", "one_minus_momentum"] } else { &[] };
        names.iter().copied().zip(self.rounded()).collect()
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "momentum", self.momentum)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        if self.has_momentum() {
            concat!(
                include_str!("../../shaders/rules/signum.wgsl"),
                include_str!("../../shaders/rule/average.wgsl"),
                include_str!("../../shaders/rule/sign.wgsl")
            )
            .into()
        } else {
            concat!(include_str!("../../shaders/rules/signsgd.wgsl"), include_str!("../../shaders/rule/sign.wgsl"))
                .into()
        }
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let step = *step;
        if !self.has_momentum() {
            return elements.each(
                #[inline(always)]
                move |param, grad, []| {
                    let decay = (step.lr * step.weight_decay) * param;
                    let new_param = param - (decay + step.lr * sign_of(grad));
                    (new_param, [])
                },
            );
        }
        let [momentum, one_minus_momentum] = self.rounded();
        elements.each(
            #[inline(always)]
            move |param, grad, [momentum_buffer]| {
                let new_momentum_buffer = average(momentum_buffer, grad, momentum, one_minus_momentum);
                let decay = (step.lr * step.weight_decay) * param;
                let new_param = param - (decay + step.lr * sign_of(new_momentum_buffer));
                (new_param, [new_momentum_buffer])
            },
        );
    }
}
