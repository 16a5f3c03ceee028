use std::borrow::Cow;

use crate::Error;
use crate::rule::{Elements, Rule, Step, check_rate, check_weight, common_options, setters};

/// Adadelta (Zeiler 2012, arXiv 1212.5701, Algorithm 1), as `torch.optim.Adadelta`.
///
/// `grad += weight_decay·param`; `square_avg = rho·square_avg + (1 - rho)·grad²`;
/// `delta = √(acc_delta + eps)/√(square_avg + eps) · grad`; `acc_delta = rho·acc_delta + (1 - rho)·delta²`;
/// `param -= lr·delta`.
///
/// State: 8 bytes per parameter (`square_avg`, `acc_delta`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Adadelta {
    /// Learning rate; default 1.
    pub lr: f64,
    /// β of both running averages, 0 to 1; default 0.9.
    pub rho: f64,
    /// Added inside both roots; default 1e-6.
    pub eps: f64,
    /// L2 weight decay, added to the gradient; default 0.
    pub weight_decay: f64,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Adadelta {
    fn default() -> Self {
        Self { lr: 1.0, rho: 0.9, eps: 1e-6, weight_decay: 0.0, maximize: false }
    }
}

impl Adadelta {
    setters! {
        /// Sets [`Adadelta::lr`].
        with_lr(lr: f64),
        /// Sets [`Adadelta::rho`].
        with_rho(rho: f64),
        /// Sets [`Adadelta::eps`].
        with_eps(eps: f64),
        /// Sets [`Adadelta::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Adadelta::maximize`].
        with_maximize(maximize: bool),
    }
}

impl Rule for Adadelta {
    common_options!("adadelta");

    fn states(&self) -> Vec<&str> {
        vec!["square_avg", "acc_delta"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        vec![("rho", self.rho as f32), ("one_minus_rho", (1.0 - self.rho) as f32), ("eps", self.eps as f32)]
    }
    fn validate(&self) -> Result<(), Error> {
        check_weight(self.name(), "rho", self.rho)?;
        check_rate(self.name(), "eps", self.eps)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/adadelta.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let step = *step;
        let (rho, one_minus_rho, eps) = (self.rho as f32, (1.0 - self.rho) as f32, self.eps as f32);
        elements.each(
            #[inline(always)]
            move |param, grad, [square_avg, acc_delta]| {
                let decayed = grad + step.weight_decay * param;
                let new_square_avg = rho * square_avg + one_minus_rho * (decayed * decayed);
                let delta = (acc_delta + eps).sqrt() / (new_square_avg + eps).sqrt() * decayed;
                let new_acc_delta = rho * acc_delta + one_minus_rho * (delta * delta);
                let new_param = param - step.lr * delta;
                (new_param, [new_square_avg, new_acc_delta])
            },
        );
    }
}
