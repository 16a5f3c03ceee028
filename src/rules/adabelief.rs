use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, check_beta, check_rate, lerp};

rule! {
    /// `AdaBelief` (Zhuang et al. 2020, arXiv 2010.07468), as `optax.adabelief`: Adam with the squared deviation of the
    /// gradient from its running average in place of its square.
    ///
    /// `exp_avg_var = β₂·exp_avg_var + (1 - β₂)(grad - exp_avg)² + eps_root`;
    /// `param -= lr/(1 - β₁ᵗ) · exp_avg / (√(exp_avg_var/(1 - β₂ᵗ)) + eps)`. The authors' package `adabelief-pytorch`
    /// rectifies by default and has one number for `eps_root` and `eps`; this rule does neither.
    ///
    /// State: 8 bytes per parameter (`exp_avg`, `exp_avg_var`).
    AdaBelief = "adabelief" from "optax" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// β of the running averages of the gradient and of its squared deviation; default (0.9, 0.999).
        betas: (f64, f64) = (0.9, 0.999), with_betas;
        /// Added to the denominator; default 1e-16.
        eps: f64 = 1e-16, with_eps;
        /// Added to `exp_avg_var` at every step; default 1e-16.
        eps_root: f64 = 1e-16, with_eps_root;
        /// Decoupled weight decay, as `optax.add_decayed_weights` before the learning rate; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants {}
}

impl AdaBelief {
    /// beta1, 1 - beta1, beta2, 1 - beta2, eps, `eps_root`.
    fn rounded(&self) -> [f32; 6] {
        let (beta1, beta2) = self.betas;
        [beta1, 1.0 - beta1, beta2, 1.0 - beta2, self.eps, self.eps_root].map(|value| value as f32)
    }
}

impl Rule for AdaBelief {
    fn spec(&self) -> RuleSpec {
        let hyperparameters = ["beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "eps", "eps_root"];
        common_spec!(self)
            .with_states([StateSpec::first_moment("exp_avg"), StateSpec::second_moment("exp_avg_var")])
            .with_hyperparameters(hyperparameters.into_iter().zip(self.rounded()))
            .with_bias_corrected([self.betas.0, self.betas.1])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("adabelief", "betas.0", self.betas.0)?;
        check_beta("adabelief", "betas.1", self.betas.1)?;
        check_rate("adabelief", "eps", self.eps)?;
        check_rate("adabelief", "eps_root", self.eps_root)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/adabelief.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let [beta1, one_minus_beta1, beta2, one_minus_beta2, eps, eps_root] = self.rounded();
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_var]| {
                let new_exp_avg = lerp(exp_avg, grad, beta1, one_minus_beta1);
                let prediction_error = beta1 * (grad - exp_avg);
                let squared_error = prediction_error * prediction_error;
                let new_exp_avg_var = lerp(exp_avg_var, squared_error, beta2, one_minus_beta2) + eps_root;
                let step_size = step.lr / step.bias_correction[0];
                let denom = (new_exp_avg_var / step.bias_correction[1]).sqrt() + eps;
                let decay = (step.lr * step.weight_decay) * param;
                let new_param = param - (decay + step_size * (new_exp_avg / denom));
                (new_param, [new_exp_avg, new_exp_avg_var])
            },
        );
    }
}
