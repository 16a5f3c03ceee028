use std::borrow::Cow;

use super::declare::{common_spec, cycles_momentum, rule};
use crate::Error;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, check_beta, check_rate, maximum};

rule! {
    /// Adamax (Kingma & Ba 2015, arXiv 1412.6980, section 7.1), as `torch.optim.Adamax`.
    ///
    /// `grad += weight_decay·param`, or decoupled `param *= 1 - lr·weight_decay`;
    /// `exp_avg = β₁·exp_avg + (1 - β₁)·grad`; `exp_inf = max(β₂·exp_inf, |grad| + eps)`;
    /// `param -= lr/(1 - β₁ᵗ) · exp_avg/exp_inf`.
    ///
    /// State: 8 bytes per parameter (`exp_avg`, `exp_inf`).
    Adamax = "adamax" from "torch.optim" {
        /// Learning rate; default 2e-3.
        lr: f64 = 2e-3, with_lr;
        /// β of the gradient's running average and of the decay of its maximum; default (0.9, 0.999).
        betas: (f64, f64) = (0.9, 0.999), with_betas;
        /// Added to the gradient's absolute value; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Weight decay, added to the gradient (L2) unless decoupled; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Decoupled weight decay, as in [`AdamW`](crate::AdamW); default false.
        decoupled_weight_decay: bool = false, with_decoupled_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets { optax: "decoupled weight decay" }
    variants { Self::optax() }
}

impl Adamax {
    /// `torch.optim.Adamax`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adamax` and, with weight decay, `optax.adamaxw`: decoupled weight decay. optax has no default learning
    /// rate; this keeps the default.
    pub fn optax() -> Self {
        Self { decoupled_weight_decay: true, ..Self::default() }
    }
}

impl Rule for Adamax {
    cycles_momentum!(betas.0);

    fn spec(&self) -> RuleSpec {
        common_spec!(self)
            .with_states([StateSpec::first_moment("exp_avg"), StateSpec::second_moment("exp_inf")])
            .with_hyperparameters([
                ("beta1", self.betas.0 as f32),
                ("one_minus_beta1", (1.0 - self.betas.0) as f32),
                ("beta2", self.betas.1 as f32),
                ("eps", self.eps as f32),
            ])
            .with_flags([("decoupled_weight_decay", self.decoupled_weight_decay)])
            .with_bias_corrected([self.betas.0])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("adamax", "betas.0", self.betas.0)?;
        check_beta("adamax", "betas.1", self.betas.1)?;
        check_rate("adamax", "eps", self.eps)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/adamax.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let (rule, step) = (self.clone(), *step);
        let (beta1, one_minus_beta1) = (rule.betas.0 as f32, (1.0 - rule.betas.0) as f32);
        let (beta2, eps) = (rule.betas.1 as f32, rule.eps as f32);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_inf]| {
                let mut decay = 0.0;
                let mut decayed = grad;
                if rule.decoupled_weight_decay {
                    decay = (step.lr * step.weight_decay) * param;
                } else {
                    decayed = grad + step.weight_decay * param;
                }
                let new_exp_avg = beta1 * exp_avg + one_minus_beta1 * decayed;
                let new_exp_inf = maximum(beta2 * exp_inf, decayed.abs() + eps);
                let step_size = step.lr / step.bias_correction[0];
                let new_param = param - (decay + step_size * (new_exp_avg / new_exp_inf));
                (new_param, [new_exp_avg, new_exp_inf])
            },
        );
    }
}
