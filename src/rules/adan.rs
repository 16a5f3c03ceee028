use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, check_beta, check_rate, lerp, same_sign};

rule! {
    /// Adan (Xie et al. 2022, arXiv 2208.06677), as its authors' `sail-sg/Adan` and `timm.optim.Adan`: Nesterov
    /// momentum from the differences of successive gradients.
    ///
    /// With `diff = grad - previous grad` (0 at the first step) and `w = β₂`:
    /// `exp_avg_sq = β₃·exp_avg_sq + (1 - β₃)(grad + w·diff)²`; the update is
    /// `(exp_avg/(1 - β₁ᵗ) + w·exp_avg_diff/(1 - β₂ᵗ)) / (√(exp_avg_sq/(1 - β₃ᵗ) + eps_root) + eps)`;
    /// `param = (param - lr·update)/(1 + lr·weight_decay)`, or with `no_prox`
    /// `param·(1 - lr·weight_decay) - lr·update`.
    ///
    /// Betas are decay rates, as in both packages; the paper's are 1 minus them. [`Adan::optax`] has optax's
    /// `w = 1 - β₂`.
    ///
    /// State: 16 bytes per parameter (`exp_avg`, `exp_avg_diff`, `exp_avg_sq`, `neg_pre_grad`).
    Adan = "adan" from "the authors' code" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// β of the running averages of gradient, difference and square; default (0.98, 0.92, 0.99).
        betas: (f64, f64, f64) = (0.98, 0.92, 0.99), with_betas;
        /// Added to the denominator; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Added inside the root; default 0.
        eps_root: f64 = 0.0, with_eps_root;
        /// Weight decay, proximal or, with `no_prox`, as in [`AdamW`](crate::AdamW); default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Decay the parameter before the update instead of dividing it after; default false.
        no_prox: bool = false, with_no_prox;
        /// Weight of differences 1 - β₂, as in optax, instead of β₂; default false.
        complement_weight: bool = false, with_complement_weight;
        /// Leave `exp_avg` out of the update where it differs from the gradient in sign, as timm does. See
        /// [`AdamW::cautious`](crate::AdamW::cautious); default false.
        cautious: bool = false, with_cautious;
        /// Skip the decay of elements that the update, before any mask, moves away from 0, as
        /// [`AdamW::cautious_weight_decay`](crate::AdamW::cautious_weight_decay); default false.
        cautious_weight_decay: bool = false, with_cautious_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets { optax: "differences weighed by 1 - β₂; no prox; `eps_root` 1e-8" }
    variants { Self::default().with_cautious(true).with_cautious_weight_decay(true), Self::optax() }
}

impl Adan {
    /// `optax.adan`: `eps_root` 1e-8, `no_prox`, and differences weighed by 1 - β₂. With equal betas that is another
    /// rule than the authors'.
    pub fn optax() -> Self {
        Self { eps_root: 1e-8, no_prox: true, complement_weight: true, ..Self::default() }
    }

    /// The betas and their complements, eps, `eps_root`, and the weight of differences.
    fn rounded(&self) -> [f32; 9] {
        let (beta1, beta2, beta3) = self.betas;
        let diff_weight = if self.complement_weight { 1.0 - beta2 } else { beta2 };
        [beta1, 1.0 - beta1, beta2, 1.0 - beta2, beta3, 1.0 - beta3, self.eps, self.eps_root, diff_weight]
            .map(|value| value as f32)
    }
}

impl Rule for Adan {
    fn spec(&self) -> RuleSpec {
        let betas = ["beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "beta3", "one_minus_beta3"];
        let hyperparameters = betas.into_iter().chain(["eps", "eps_root", "diff_weight"]);
        common_spec!(self)
            .with_states([
                StateSpec::first_moment("exp_avg"),
                StateSpec::first_moment("exp_avg_diff"),
                StateSpec::second_moment("exp_avg_sq"),
                StateSpec::new("neg_pre_grad"),
            ])
            .with_hyperparameters(hyperparameters.zip(self.rounded()))
            .with_flags([
                ("no_prox", self.no_prox),
                ("cautious", self.cautious),
                ("cautious_weight_decay", self.cautious_weight_decay),
            ])
            .with_bias_corrected([self.betas.0, self.betas.1, self.betas.2])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("adan", "betas.0", self.betas.0)?;
        check_beta("adan", "betas.1", self.betas.1)?;
        check_beta("adan", "betas.2", self.betas.2)?;
        check_rate("adan", "eps", self.eps)?;
        check_rate("adan", "eps_root", self.eps_root)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/adan.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let (rule, step) = (self.clone(), *step);
        let [beta1, one_minus_beta1, beta2, one_minus_beta2, beta3, one_minus_beta3, eps, eps_root, diff_weight] =
            rule.rounded();
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_diff, exp_avg_sq, neg_pre_grad]| {
                let mut diff = grad + neg_pre_grad;
                if step.is_first {
                    diff = 0.0;
                }
                let new_exp_avg = lerp(exp_avg, grad, beta1, one_minus_beta1);
                let new_exp_avg_diff = lerp(exp_avg_diff, diff, beta2, one_minus_beta2);
                let lookahead = grad + diff_weight * diff;
                let new_exp_avg_sq = lerp(exp_avg_sq, lookahead * lookahead, beta3, one_minus_beta3);
                let new_neg_pre_grad = -grad;
                let mut momentum = new_exp_avg / step.bias_correction[0];
                let change = diff_weight * (new_exp_avg_diff / step.bias_correction[1]);
                let denom = (new_exp_avg_sq / step.bias_correction[2] + eps_root).sqrt() + eps;
                let mut decay = step.lr * step.weight_decay;
                if rule.cautious_weight_decay && same_sign(-(momentum + change), param) {
                    decay = 0.0;
                }
                if rule.cautious {
                    momentum *= f32::from(u8::from(same_sign(new_exp_avg, grad)));
                }
                let mut change_of_param = decay * param + step.lr * ((momentum + change) / denom);
                if !rule.no_prox {
                    change_of_param /= 1.0 + decay;
                }
                let new_param = param - change_of_param;
                (new_param, [new_exp_avg, new_exp_avg_diff, new_exp_avg_sq, new_neg_pre_grad])
            },
        );
    }
}
