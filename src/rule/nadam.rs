use std::borrow::Cow;

use super::{Elements, Rule, Step, check_beta, common_options, setters};
use crate::Error;
use crate::error::check;

/// NAdam (Dozat 2016, "Incorporating Nesterov Momentum into Adam"), as `torch.optim.NAdam`.
///
/// With `μₜ = β₁·(1 - ½·0.96^(t·momentum_decay))` and `denom = √(exp_avg_sq/(1 - β₂ᵗ)) + eps`:
/// `param -= lr·(1 - μₜ)/(1 - μ₁…μₜ)·grad/denom + lr·μₜ₊₁/(1 - μ₁…μₜ₊₁)·exp_avg/denom`.
///
/// The product of the `μ` is kept on the device and counts applied steps only.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct NAdam {
    /// Learning rate; default 2e-3.
    pub lr: f64,
    /// β of the gradient's and of the squared gradient's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// Weight decay, added to the gradient (L2) unless decoupled; default 0.
    pub weight_decay: f64,
    /// ψ, how fast μ grows from β₁/2 to β₁: 0 (μ stays), or at least 1e-6; default 4e-3.
    pub momentum_decay: f64,
    /// Decays as AdamW does: `param *= 1 - lr·weight_decay`, and the gradient is left alone; default false.
    pub decoupled_weight_decay: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for NAdam {
    fn default() -> Self {
        Self {
            lr: 2e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            momentum_decay: 4e-3,
            decoupled_weight_decay: false,
            maximize: false,
        }
    }
}

impl NAdam {
    setters! {
        /// Sets [`NAdam::lr`].
        with_lr(lr: f64),
        /// Sets [`NAdam::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`NAdam::eps`].
        with_eps(eps: f64),
        /// Sets [`NAdam::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`NAdam::momentum_decay`].
        with_momentum_decay(momentum_decay: f64),
        /// Sets [`NAdam::decoupled_weight_decay`].
        with_decoupled_weight_decay(decoupled_weight_decay: bool),
        /// Sets [`NAdam::maximize`].
        with_maximize(maximize: bool),
    }

    fn hyper(&self) -> Hyper {
        Hyper {
            beta1: self.betas.0 as f32,
            one_minus_beta1: (1.0 - self.betas.0) as f32,
            beta2: self.betas.1 as f32,
            one_minus_beta2: (1.0 - self.betas.1) as f32,
            eps: self.eps as f32,
            half_decay: if self.momentum_decay == 0.0 { 0.0 } else { 0.5 },
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
    half_decay: f32,
    one_minus_q: f32,
}

impl Rule for NAdam {
    common_options!("nadam");

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg", "exp_avg_sq"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        let Hyper { beta1, one_minus_beta1, beta2, one_minus_beta2, eps, half_decay, one_minus_q } = self.hyper();
        vec![
            ("beta1", beta1),
            ("one_minus_beta1", one_minus_beta1),
            ("beta2", beta2),
            ("one_minus_beta2", one_minus_beta2),
            ("eps", eps),
            ("half_decay", half_decay),
            ("one_minus_q", one_minus_q),
        ]
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        vec![("decoupled_weight_decay", f64::from(u8::from(self.decoupled_weight_decay)))]
    }
    fn bias_corrected(&self) -> Vec<f64> {
        // What is no beta, because momentum_decay is 0 or out of range, counts for nothing or is refused below.
        let q = 0.96f64.powf(self.momentum_decay);
        vec![self.betas.0, self.betas.1, if (q as f32) < 1.0 { q } else { 0.0 }]
    }
    fn scalars(&self) -> Vec<(&str, f32)> {
        vec![("mu_product", 1.0), ("one_minus_mu_product", 0.0), ("grad_share", 0.0), ("exp_avg_share", 0.0)]
    }
    fn advance(&self, scalars: &mut [f32; 4], _lr: f32, bias_correction: [f32; 4], _t: u32) {
        let hyper = self.hyper();
        let [mu_product, one_minus_mu_product, ..] = *scalars;
        let upcoming = bias_correction[2] + (1.0 - bias_correction[2]) * hyper.one_minus_q;
        let mu = hyper.beta1 * (0.5 + hyper.half_decay * bias_correction[2]);
        let mu_next = hyper.beta1 * (0.5 + hyper.half_decay * upcoming);
        let one_minus_mu = hyper.one_minus_beta1 + hyper.beta1 * (0.5 - hyper.half_decay * bias_correction[2]);
        let one_minus_mu_next = hyper.one_minus_beta1 + hyper.beta1 * (0.5 - hyper.half_decay * upcoming);
        let new_mu_product = mu_product * mu;
        let new_one_minus_mu_product = one_minus_mu_product + mu_product * one_minus_mu;
        let one_minus_next_product = new_one_minus_mu_product + new_mu_product * one_minus_mu_next;
        let grad_share = one_minus_mu / new_one_minus_mu_product;
        let exp_avg_share = mu_next / one_minus_next_product;
        *scalars = [new_mu_product, new_one_minus_mu_product, grad_share, exp_avg_share];
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)?;
        check(self.eps >= 0.0 && (self.eps as f32).is_finite(), self.name(), "eps", self.eps, "0 or greater, finite")?;
        let decay = self.momentum_decay;
        let allowed = decay == 0.0 || (decay >= 1e-6 && (decay as f32).is_finite());
        check(allowed, self.name(), "momentum_decay", decay, "0, or 1e-6 and greater, finite")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rule/nadam.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let step = *step;
        let hyper = self.hyper();
        let [_, _, grad_share, exp_avg_share] = step.scalars;
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_sq]| {
                let mut new_param = param;
                let mut decayed = grad;
                if self.decoupled_weight_decay {
                    new_param = param - (step.lr * step.weight_decay) * param;
                } else {
                    decayed = grad + step.weight_decay * param;
                }
                let new_exp_avg = hyper.beta1 * exp_avg + hyper.one_minus_beta1 * decayed;
                let new_exp_avg_sq = hyper.beta2 * exp_avg_sq + hyper.one_minus_beta2 * (decayed * decayed);
                let denom = (new_exp_avg_sq / step.bias_correction[1]).sqrt() + hyper.eps;
                let direction = grad_share * (decayed / denom) + exp_avg_share * (new_exp_avg / denom);
                new_param -= step.lr * direction;
                (new_param, [new_exp_avg, new_exp_avg_sq])
            },
        );
    }
}
