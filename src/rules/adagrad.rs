use std::borrow::Cow;

use crate::Error;
use crate::rule::{Elements, Rule, Step, check_rate, common_options, setters};

/// Adagrad (Duchi et al. 2011, JMLR 12), as `torch.optim.Adagrad`.
///
/// `grad += weight_decay·param`; `sum += grad²`; `param -= lr/(1 + (t - 1)·lr_decay) · grad / (√sum + eps)`.
///
/// State: 4 bytes per parameter (`sum`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Adagrad {
    /// Learning rate; default 1e-2.
    pub lr: f64,
    /// What the learning rate is divided by grows by this much with each applied step; default 0.
    pub lr_decay: f64,
    /// L2 weight decay, added to the gradient; default 0.
    pub weight_decay: f64,
    /// What `sum` holds before the first step; default 0.
    pub initial_accumulator_value: f64,
    /// Added to the denominator; default 1e-10.
    pub eps: f64,
    /// Divide by `√(sum + eps)`, as optax and TensorFlow do; default false.
    pub eps_in_root: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Adagrad {
    fn default() -> Self {
        Self {
            lr: 1e-2,
            lr_decay: 0.0,
            weight_decay: 0.0,
            initial_accumulator_value: 0.0,
            eps: 1e-10,
            eps_in_root: false,
            maximize: false,
        }
    }
}

impl Adagrad {
    /// `optax.adagrad`: `sum` starts at 0.1, and eps, 1e-7, is added inside the root. optax has no default learning
    /// rate; this keeps PyTorch's.
    pub fn optax() -> Self {
        Self { initial_accumulator_value: 0.1, eps: 1e-7, eps_in_root: true, ..Self::default() }
    }

    /// `keras.optimizers.Adagrad`: as optax, with learning rate 1e-3. What Keras calls its weight decay is decoupled;
    /// this has PyTorch's.
    pub fn keras() -> Self {
        Self { lr: 1e-3, ..Self::optax() }
    }

    setters! {
        /// Sets [`Adagrad::lr`].
        with_lr(lr: f64),
        /// Sets [`Adagrad::lr_decay`].
        with_lr_decay(lr_decay: f64),
        /// Sets [`Adagrad::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Adagrad::initial_accumulator_value`].
        with_initial_accumulator_value(initial_accumulator_value: f64),
        /// Sets [`Adagrad::eps`].
        with_eps(eps: f64),
        /// Sets [`Adagrad::eps_in_root`].
        with_eps_in_root(eps_in_root: bool),
        /// Sets [`Adagrad::maximize`].
        with_maximize(maximize: bool),
    }
}

impl Rule for Adagrad {
    common_options!("adagrad");

    fn states(&self) -> Vec<&str> {
        vec!["sum"]
    }
    fn initial_state(&self, _state: &str) -> f32 {
        self.initial_accumulator_value as f32
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        vec![("lr_decay", self.lr_decay as f32), ("eps", self.eps as f32)]
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        vec![("eps_in_root", f64::from(u8::from(self.eps_in_root)))]
    }
    fn validate(&self) -> Result<(), Error> {
        check_rate(self.name(), "lr_decay", self.lr_decay)?;
        check_rate(self.name(), "initial_accumulator_value", self.initial_accumulator_value)?;
        check_rate(self.name(), "eps", self.eps)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/adagrad.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let step = *step;
        let (lr_decay, eps) = (self.lr_decay as f32, self.eps as f32);
        elements.each(
            #[inline(always)]
            move |param, grad, [sum]| {
                let decayed = grad + step.weight_decay * param;
                let new_sum = sum + decayed * decayed;
                let clr = step.lr / (1.0 + (step.t - 1) as f32 * lr_decay);
                let mut denom = new_sum.sqrt() + eps;
                if self.eps_in_root {
                    denom = (new_sum + eps).sqrt();
                }
                let new_param = param - clr * (decayed / denom);
                (new_param, [new_sum])
            },
        );
    }
}
