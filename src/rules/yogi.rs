use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, check_beta, check_rate, lerp, sign_of};

rule! {
    /// Yogi (Zaheer et al. 2018, "Adaptive Methods for Nonconvex Optimization", `NeurIPS`), as `optax.yogi`: Adam whose
    /// second moment changes by `(1 - β₂)·grad²`, however far it is from grad².
    ///
    /// `exp_avg_sq -= (1 - β₂)·sign(exp_avg_sq - grad²)·grad²`;
    /// `param -= lr/(1 - β₁ᵗ) · exp_avg / (√(exp_avg_sq/(1 - β₂ᵗ)) + eps)`. As in optax, both averages start at
    /// `initial_accumulator_value`.
    ///
    /// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`).
    Yogi = "yogi" from "optax" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// β of the running averages of the gradient and of its square; default (0.9, 0.999).
        betas: (f64, f64) = (0.9, 0.999), with_betas;
        /// Added to the denominator; default 1e-3.
        eps: f64 = 1e-3, with_eps;
        /// Value of both states before the first step; default 1e-6.
        initial_accumulator_value: f64 = 1e-6, with_initial_accumulator_value;
        /// Decoupled weight decay, as `optax.add_decayed_weights` before the learning rate; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants {}
}

impl Yogi {
    /// beta1, 1 - beta1, 1 - beta2, eps.
    fn rounded(&self) -> [f32; 4] {
        let (beta1, beta2) = self.betas;
        [beta1, 1.0 - beta1, 1.0 - beta2, self.eps].map(|value| value as f32)
    }
}

impl Rule for Yogi {
    fn spec(&self) -> RuleSpec {
        let state = |name: &'static str| StateSpec::new(name).with_initial(self.initial_accumulator_value as f32);
        let hyperparameters = ["beta1", "one_minus_beta1", "one_minus_beta2", "eps"];
        common_spec!(self)
            .with_states(["exp_avg", "exp_avg_sq"].map(state))
            .with_hyperparameters(hyperparameters.into_iter().zip(self.rounded()))
            .with_bias_corrected([self.betas.0, self.betas.1])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("yogi", "betas.0", self.betas.0)?;
        check_beta("yogi", "betas.1", self.betas.1)?;
        check_rate("yogi", "initial_accumulator_value", self.initial_accumulator_value)?;
        check_rate("yogi", "eps", self.eps)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/yogi.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let [beta1, one_minus_beta1, one_minus_beta2, eps] = self.rounded();
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_sq]| {
                let new_exp_avg = lerp(exp_avg, grad, beta1, one_minus_beta1);
                let grad_sq = grad * grad;
                let new_exp_avg_sq = exp_avg_sq - one_minus_beta2 * (sign_of(exp_avg_sq - grad_sq) * grad_sq);
                let step_size = step.lr / step.bias_correction[0];
                let denom = (new_exp_avg_sq / step.bias_correction[1]).sqrt() + eps;
                let decay = (step.lr * step.weight_decay) * param;
                let new_param = param - (decay + step_size * (new_exp_avg / denom));
                (new_param, [new_exp_avg, new_exp_avg_sq])
            },
        );
    }
}
