use std::borrow::Cow;

use super::{Elements, Rule, Step, check_beta, check_rate, common_options, setters};
use crate::Error;

/// Adamax (Kingma & Ba 2015, arXiv 1412.6980, section 7.1), as `torch.optim.Adamax`.
///
/// `grad += weight_decay·param`; `exp_avg = β₁·exp_avg + (1 - β₁)·grad`;
/// `exp_inf = max(β₂·exp_inf, |grad| + eps)`; `param -= lr/(1 - β₁ᵗ) · exp_avg/exp_inf`.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_inf`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Adamax {
    /// Learning rate; default 2e-3.
    pub lr: f64,
    /// β of the gradient's running average and of the decay of its largest absolute value; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the gradient's absolute value; default 1e-8.
    pub eps: f64,
    /// L2 weight decay, added to the gradient; default 0.
    pub weight_decay: f64,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Adamax {
    fn default() -> Self {
        Self { lr: 2e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, maximize: false }
    }
}

impl Adamax {
    setters! {
        /// Sets [`Adamax::lr`].
        with_lr(lr: f64),
        /// Sets [`Adamax::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`Adamax::eps`].
        with_eps(eps: f64),
        /// Sets [`Adamax::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Adamax::maximize`].
        with_maximize(maximize: bool),
    }
}

impl Rule for Adamax {
    common_options!("adamax");

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg", "exp_inf"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        vec![
            ("beta1", self.betas.0 as f32),
            ("one_minus_beta1", (1.0 - self.betas.0) as f32),
            ("beta2", self.betas.1 as f32),
            ("eps", self.eps as f32),
        ]
    }
    fn bias_corrected(&self) -> Vec<f64> {
        vec![self.betas.0]
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)?;
        check_rate(self.name(), "eps", self.eps)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rule/adamax.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let step = *step;
        let (beta1, one_minus_beta1) = (self.betas.0 as f32, (1.0 - self.betas.0) as f32);
        let (beta2, eps) = (self.betas.1 as f32, self.eps as f32);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_inf]| {
                let decayed = grad + step.weight_decay * param;
                let new_exp_avg = beta1 * exp_avg + one_minus_beta1 * decayed;
                let new_exp_inf = (beta2 * exp_inf).max(decayed.abs() + eps);
                let step_size = step.lr / step.bias_correction[0];
                let new_param = param - step_size * (new_exp_avg / new_exp_inf);
                (new_param, [new_exp_avg, new_exp_inf])
            },
        );
    }
}
