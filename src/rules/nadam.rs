use std::borrow::Cow;

use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Rule, Step, agree, check_beta, check_rate, common_options, cycles, setters};

/// NAdam (Dozat 2016, "Incorporating Nesterov Momentum into Adam"), as `torch.optim.NAdam`.
///
/// With `μₜ = β₁·(1 - ½·0.96^(t·momentum_decay))` and `denom = √(exp_avg_sq/(1 - β₂ᵗ)) + eps`:
/// `param -= lr·(1 - μₜ)/(1 - μ₁…μₜ)·grad/denom + lr·μₜ₊₁/(1 - μ₁…μₜ₊₁)·exp_avg/denom`. [`NAdam::optax`] has `μ = β₁`.
///
/// The product of the `μ` is kept on the device and counts applied steps only.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`).
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework or a paper")]
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct NAdam {
    /// Learning rate; default 2e-3.
    pub lr: f64,
    /// β of the gradient's and of the squared gradient's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// Added to `exp_avg_sq/(1 - β₂ᵗ)` inside the root, as optax does; default 0.
    pub eps_root: f64,
    /// Weight decay, added to the gradient (L2) unless decoupled; default 0.
    pub weight_decay: f64,
    /// ψ, how fast μ grows from β₁/2 to β₁: 0 (μ stays), or at least 1e-6; default 4e-3.
    pub momentum_decay: f64,
    /// μ is β₁ throughout, as in optax, whatever `momentum_decay`; default false.
    pub constant_momentum: bool,
    /// Decays as AdamW does: `param *= 1 - lr·weight_decay`, and the gradient is left alone; default false.
    pub decoupled_weight_decay: bool,
    /// Leave parameters whose update has not the gradient's sign where they are: see [`AdamW::cautious`](crate::AdamW).
    /// Default false.
    pub cautious: bool,
    /// Decay no parameter that the update, before any mask, moves away from 0: see
    /// [`AdamW::cautious_weight_decay`](crate::AdamW). Needs decoupled weight decay; default false.
    pub cautious_weight_decay: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for NAdam {
    fn default() -> Self {
        Self {
            lr: 2e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            eps_root: 0.0,
            weight_decay: 0.0,
            momentum_decay: 4e-3,
            constant_momentum: false,
            decoupled_weight_decay: false,
            cautious: false,
            cautious_weight_decay: false,
            maximize: false,
        }
    }
}

impl NAdam {
    /// `torch.optim.NAdam`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.nadam`, and with weight decay `optax.nadamw`: constant momentum, decoupled weight decay. optax has no default
    /// learning rate; this keeps PyTorch's.
    pub fn optax() -> Self {
        Self { constant_momentum: true, decoupled_weight_decay: true, ..Self::default() }
    }

    setters! {
        /// Sets [`NAdam::lr`].
        with_lr(lr: f64),
        /// Sets [`NAdam::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`NAdam::eps`].
        with_eps(eps: f64),
        /// Sets [`NAdam::eps_root`].
        with_eps_root(eps_root: f64),
        /// Sets [`NAdam::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`NAdam::momentum_decay`].
        with_momentum_decay(momentum_decay: f64),
        /// Sets [`NAdam::constant_momentum`].
        with_constant_momentum(constant_momentum: bool),
        /// Sets [`NAdam::decoupled_weight_decay`].
        with_decoupled_weight_decay(decoupled_weight_decay: bool),
        /// Sets [`NAdam::cautious`].
        with_cautious(cautious: bool),
        /// Sets [`NAdam::cautious_weight_decay`].
        with_cautious_weight_decay(cautious_weight_decay: bool),
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
    common_options!("nadam");
    cycles!(betas.0);

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg", "exp_avg_sq"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        let hyper = self.hyper();
        vec![
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
        ]
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        let flag = |name, flag| (name, f64::from(u8::from(flag)));
        vec![
            flag("decoupled_weight_decay", self.decoupled_weight_decay),
            flag("cautious", self.cautious),
            flag("cautious_weight_decay", self.cautious_weight_decay),
        ]
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
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)?;
        check(self.eps >= 0.0 && (self.eps as f32).is_finite(), self.name(), "eps", self.eps, "0 or greater, finite")?;
        check_rate(self.name(), "eps_root", self.eps_root)?;
        let possible = self.decoupled_weight_decay || !self.cautious_weight_decay;
        check(possible, self.name(), "cautious_weight_decay", 1.0, "false without decoupled_weight_decay")?;
        let decay = self.momentum_decay;
        let allowed = decay == 0.0 || (decay >= 1e-6 && (decay as f32).is_finite());
        check(allowed, self.name(), "momentum_decay", decay, "0, or 1e-6 and greater, finite")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        concat!(include_str!("../../shaders/rules/nadam.wgsl"), include_str!("../../shaders/rule/agree.wgsl")).into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let (rule, step) = (self.clone(), *step);
        let hyper = rule.hyper();
        let [_, _, grad_share, exp_avg_share] = step.scalars;
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
                    if rule.cautious_weight_decay && agree(-direction, param) {
                        decay = 0.0;
                    }
                    new_param = param - decay * param;
                }
                if rule.cautious {
                    direction *= f32::from(u8::from(agree(direction, decayed)));
                }
                new_param -= step.lr * direction;
                (new_param, [new_exp_avg, new_exp_avg_sq])
            },
        );
    }
}
