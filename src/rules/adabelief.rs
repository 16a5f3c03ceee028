use std::borrow::Cow;

use crate::Error;
use crate::rule::{Elements, Rule, Step, average, check_beta, check_rate, common_options, setters};

/// `AdaBelief` (Zhuang et al. 2020, arXiv 2010.07468), as `optax.adabelief`: Adam that divides by how far the gradient
/// was from what its running average had led to expect.
///
/// `exp_avg_var = β₂·exp_avg_var + (1 - β₂)(grad - exp_avg)² + eps_root`;
/// `param -= lr/(1 - β₁ᵗ) · exp_avg / (√(exp_avg_var/(1 - β₂ᵗ)) + eps)`. Without the rectification that the authors'
/// package `adabelief-pytorch` switches on by default; there `eps_root` and `eps` are one.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_avg_var`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct AdaBelief {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// β of the gradient's and of the squared error's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-16.
    pub eps: f64,
    /// Added to `exp_avg_var` at every step; default 1e-16.
    pub eps_root: f64,
    /// Decoupled weight decay, as `optax.add_decayed_weights` before the learning rate; default 0.
    pub weight_decay: f64,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for AdaBelief {
    fn default() -> Self {
        Self { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-16, eps_root: 1e-16, weight_decay: 0.0, maximize: false }
    }
}

impl AdaBelief {
    setters! {
        /// Sets [`AdaBelief::lr`].
        with_lr(lr: f64),
        /// Sets [`AdaBelief::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`AdaBelief::eps`].
        with_eps(eps: f64),
        /// Sets [`AdaBelief::eps_root`].
        with_eps_root(eps_root: f64),
        /// Sets [`AdaBelief::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`AdaBelief::maximize`].
        with_maximize(maximize: bool),
    }

    /// beta1, 1 - beta1, beta2, 1 - beta2, eps, `eps_root`.
    fn rounded(&self) -> [f32; 6] {
        let (beta1, beta2) = self.betas;
        [beta1, 1.0 - beta1, beta2, 1.0 - beta2, self.eps, self.eps_root].map(|value| value as f32)
    }
}

impl Rule for AdaBelief {
    common_options!("adabelief");

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg", "exp_avg_var"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        let names = ["beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "eps", "eps_root"];
        names.into_iter().zip(self.rounded()).collect()
    }
    fn bias_corrected(&self) -> Vec<f64> {
        vec![self.betas.0, self.betas.1]
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)?;
        check_rate(self.name(), "eps", self.eps)?;
        check_rate(self.name(), "eps_root", self.eps_root)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        concat!(include_str!("../../shaders/rules/adabelief.wgsl"), include_str!("../../shaders/rule/average.wgsl"))
            .into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let step = *step;
        let [beta1, one_minus_beta1, beta2, one_minus_beta2, eps, eps_root] = self.rounded();
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_var]| {
                let new_exp_avg = average(exp_avg, grad, beta1, one_minus_beta1);
                let prediction_error = beta1 * (grad - exp_avg);
                let squared_error = prediction_error * prediction_error;
                let new_exp_avg_var = average(exp_avg_var, squared_error, beta2, one_minus_beta2) + eps_root;
                let step_size = step.lr / step.bias_correction[0];
                let denom = (new_exp_avg_var / step.bias_correction[1]).sqrt() + eps;
                let decay = (step.lr * step.weight_decay) * param;
                let new_param = param - (decay + step_size * (new_exp_avg / denom));
                (new_param, [new_exp_avg, new_exp_avg_var])
            },
        );
    }
}
