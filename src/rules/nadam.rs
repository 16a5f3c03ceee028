use std::borrow::Cow;

use super::declare::{common_spec, cycles_momentum, rule};
use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Rule, RuleSpec, ScalarState, StateSpec, StepScalars, check_beta, check_rate, same_sign};

rule! {
    /// NAdam (Dozat 2016, "Incorporating Nesterov Momentum into Adam"), as `torch.optim.NAdam`.
    ///
    /// With `μₜ = β₁·(1 - ½·0.96^(t·momentum_decay))` and `denom = √(exp_avg_sq/(1 - β₂ᵗ)) + eps`:
    /// `param -= lr·(1 - μₜ)/(1 - μ₁…μₜ)·grad/denom + lr·μₜ₊₁/(1 - μ₁…μₜ₊₁)·exp_avg/denom`. [`NAdam::optax`] has
    /// `μ = β₁`.
    ///
    /// The device holds the product of the `μ`; only applied steps extend it.
    ///
    /// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`).
    NAdam = "nadam" from "torch.optim" {
        /// Learning rate; default 2e-3.
        lr: f64 = 2e-3, with_lr;
        /// β of the running averages of the gradient and of its square; default (0.9, 0.999).
        betas: (f64, f64) = (0.9, 0.999), with_betas;
        /// Added to the denominator; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Added to `exp_avg_sq/(1 - β₂ᵗ)` inside the root, as optax does; default 0.
        eps_root: f64 = 0.0, with_eps_root;
        /// Weight decay, added to the gradient (L2) unless decoupled; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// ψ, the rate at which μ grows from β₁/2 to β₁: 0 (constant μ), or at least 1e-6; default 4e-3.
        momentum_decay: f64 = 4e-3, with_momentum_decay;
        /// μ is β₁ throughout, as in optax, whatever `momentum_decay`; default false.
        constant_momentum: bool = false, with_constant_momentum;
        /// Decoupled weight decay, as in [`AdamW`](crate::AdamW); default false.
        decoupled_weight_decay: bool = false, with_decoupled_weight_decay;
        /// Skip the update of elements where update and gradient differ in sign, as
        /// [`AdamW::cautious`](crate::AdamW::cautious); default false.
        cautious: bool = false, with_cautious;
        /// Skip the decay of elements that the update, before any mask, moves away from 0, as
        /// [`AdamW::cautious_weight_decay`](crate::AdamW::cautious_weight_decay). Requires decoupled weight decay;
        /// default false.
        cautious_weight_decay: bool = false, with_cautious_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets { optax: "momentum β₁ throughout; decoupled weight decay" }
    variants { Self::optax().with_cautious(true).with_cautious_weight_decay(true) }
}

impl NAdam {
    /// `torch.optim.NAdam`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.nadam` and, with weight decay, `optax.nadamw`: constant momentum, decoupled weight decay. optax has no
    /// default learning rate; this keeps the default.
    pub fn optax() -> Self {
        Self { constant_momentum: true, decoupled_weight_decay: true, ..Self::default() }
    }

    fn hyper(&self) -> Hyper {
        Hyper {
            beta1: self.betas.0 as f32,
            one_minus_beta1: (1.0 - self.betas.0) as f32,
            beta2: self.betas.1 as f32,
            one_minus_beta2: (1.0 - self.betas.1) as f32,
            eps: self.eps as f32,
            eps_root: self.eps_root as f32,
            first_share: if self.constant_momentum { 1.0 } else { 0.5 },
            missing_share: if self.constant_momentum { 0.0 } else { 0.5 },
            half_decay: if self.momentum_decay == 0.0 || self.constant_momentum { 0.0 } else { 0.5 },
            one_minus_q: -(self.momentum_decay * 0.96f64.ln()).exp_m1() as f32,
        }
    }
}

struct Hyper {
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    eps_root: f32,
    first_share: f32,
    missing_share: f32,
    half_decay: f32,
    one_minus_q: f32,
}

impl Rule for NAdam {
    cycles_momentum!(betas.0);

    fn spec(&self) -> RuleSpec {
        let hyper = self.hyper();
        let q = 0.96f64.powf(self.momentum_decay);
        // `validate` refuses a q out of range; a q of 1 has no effect.
        let q = if (q as f32) < 1.0 { q } else { 0.0 };
        common_spec!(self)
            .with_states([StateSpec::first_moment("exp_avg"), StateSpec::second_moment("exp_avg_sq")])
            .with_hyperparameters([
                ("beta1", hyper.beta1),
                ("one_minus_beta1", hyper.one_minus_beta1),
                ("beta2", hyper.beta2),
                ("one_minus_beta2", hyper.one_minus_beta2),
                ("eps", hyper.eps),
                ("eps_root", hyper.eps_root),
                ("first_share", hyper.first_share),
                ("missing_share", hyper.missing_share),
                ("half_decay", hyper.half_decay),
                ("one_minus_q", hyper.one_minus_q),
            ])
            .with_flags([
                ("decoupled_weight_decay", self.decoupled_weight_decay),
                ("cautious", self.cautious),
                ("cautious_weight_decay", self.cautious_weight_decay),
            ])
            .with_bias_corrected([self.betas.0, self.betas.1, q])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("nadam", "betas.0", self.betas.0)?;
        check_beta("nadam", "betas.1", self.betas.1)?;
        check(self.eps >= 0.0 && (self.eps as f32).is_finite(), "nadam", "eps", self.eps, "0 or greater, finite")?;
        check_rate("nadam", "eps_root", self.eps_root)?;
        let possible = self.decoupled_weight_decay || !self.cautious_weight_decay;
        check(possible, "nadam", "cautious_weight_decay", 1.0, "false without decoupled_weight_decay")?;
        let decay = self.momentum_decay;
        let allowed = decay == 0.0 || (decay >= 1e-6 && (decay as f32).is_finite());
        check(allowed, "nadam", "momentum_decay", decay, "0, or 1e-6 and greater, finite")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/nadam.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let (rule, step) = (self.clone(), *step);
        let hyper = rule.hyper();
        let [_, _, grad_share, exp_avg_share] = step.scalar_state;
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_sq]| {
                let mut new_param = param;
                let mut decayed = grad;
                if !rule.decoupled_weight_decay {
                    decayed = grad + step.weight_decay * param;
                }
                let new_exp_avg = hyper.beta1 * exp_avg + hyper.one_minus_beta1 * decayed;
                let new_exp_avg_sq = hyper.beta2 * exp_avg_sq + hyper.one_minus_beta2 * (decayed * decayed);
                let denom = (new_exp_avg_sq / step.bias_correction[1] + hyper.eps_root).sqrt() + hyper.eps;
                let mut direction = grad_share * (decayed / denom) + exp_avg_share * (new_exp_avg / denom);
                if rule.decoupled_weight_decay {
                    let mut decay = step.lr * step.weight_decay;
                    if rule.cautious_weight_decay && same_sign(-direction, param) {
                        decay = 0.0;
                    }
                    new_param = param - decay * param;
                }
                if rule.cautious {
                    direction *= f32::from(u8::from(same_sign(direction, decayed)));
                }
                new_param -= step.lr * direction;
                (new_param, [new_exp_avg, new_exp_avg_sq])
            },
        );
    }
    fn scalar_state(&self) -> Option<&dyn ScalarState> {
        Some(self)
    }
}

impl ScalarState for NAdam {
    fn initial_scalars(&self) -> Vec<(&'static str, f32)> {
        vec![("mu_product", 1.0), ("one_minus_mu_product", 0.0), ("grad_share", 0.0), ("exp_avg_share", 0.0)]
    }
    fn update_scalars(&self, scalars: &mut [f32; 4], _lr: f32, bias_correction: [f32; 4], _t: u32) {
        let hyper = self.hyper();
        let [mu_product, one_minus_mu_product, ..] = *scalars;
        let upcoming = bias_correction[2] + (1.0 - bias_correction[2]) * hyper.one_minus_q;
        let mu = hyper.beta1 * (hyper.first_share + hyper.half_decay * bias_correction[2]);
        let mu_next = hyper.beta1 * (hyper.first_share + hyper.half_decay * upcoming);
        let one_minus_mu =
            hyper.one_minus_beta1 + hyper.beta1 * (hyper.missing_share - hyper.half_decay * bias_correction[2]);
        let one_minus_mu_next =
            hyper.one_minus_beta1 + hyper.beta1 * (hyper.missing_share - hyper.half_decay * upcoming);
        let new_mu_product = mu_product * mu;
        let new_one_minus_mu_product = one_minus_mu_product + mu_product * one_minus_mu;
        let one_minus_next_product = new_one_minus_mu_product + new_mu_product * one_minus_mu_next;
        let grad_share = one_minus_mu / new_one_minus_mu_product;
        let exp_avg_share = mu_next / one_minus_next_product;
        *scalars = [new_mu_product, new_one_minus_mu_product, grad_share, exp_avg_share];
    }
}
