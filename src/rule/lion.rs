use std::borrow::Cow;

use super::{Elements, Rule, Step, check_beta, setters};
use crate::Error;

/// Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2).
///
/// `param *= 1 - lr·weight_decay`; `param -= lr·sign(β₁·exp_avg + (1 - β₁)·grad)` with sign(0) = 0;
/// `exp_avg = β₂·exp_avg + (1 - β₂)·grad`.
///
/// State: 4 bytes per parameter (`exp_avg`).
#[derive(Debug, Clone, PartialEq)]
pub struct Lion {
    /// Learning rate; default 1e-4.
    pub lr: f64,
    /// β of the sign's interpolation and of the running average; default (0.9, 0.99).
    pub betas: (f64, f64),
    /// Decoupled weight decay; default 0.
    pub weight_decay: f64,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Lion {
    fn default() -> Self {
        Self { lr: 1e-4, betas: (0.9, 0.99), weight_decay: 0.0, maximize: false }
    }
}

impl Lion {
    setters! {
        /// Sets [`Lion::lr`].
        with_lr(lr: f64),
        /// Sets [`Lion::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`Lion::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Lion::maximize`].
        with_maximize(maximize: bool),
    }
}

/// 0 for zero and, as in PyTorch, for NaN, unlike [`f32::signum`].
pub(super) fn sign_of(value: f32) -> f32 {
    f32::from(value > 0.0) - f32::from(value < 0.0)
}

impl Rule for Lion {
    fn name(&self) -> &'static str {
        "lion"
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
        vec!["exp_avg"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        vec![
            ("beta1", self.betas.0 as f32),
            ("one_minus_beta1", (1.0 - self.betas.0) as f32),
            ("beta2", self.betas.1 as f32),
            ("one_minus_beta2", (1.0 - self.betas.1) as f32),
        ]
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rule/lion.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let (beta1, one_minus_beta1) = (self.betas.0 as f32, (1.0 - self.betas.0) as f32);
        let (beta2, one_minus_beta2) = (self.betas.1 as f32, (1.0 - self.betas.1) as f32);
        elements.each(|param, grad, [exp_avg]| {
            let interpolated = beta1 * exp_avg + one_minus_beta1 * grad;
            let mut new_param = param - (step.lr * step.weight_decay) * param;
            new_param -= step.lr * sign_of(interpolated);
            let new_exp_avg = beta2 * exp_avg + one_minus_beta2 * grad;
            (new_param, [new_exp_avg])
        });
    }
}
