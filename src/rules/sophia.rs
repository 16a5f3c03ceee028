use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::error::{check, is_rate};
use crate::rule::{AuxiliaryUpdates, Elements, Metric, Rule, RuleSpec, StateSpec, StepScalars, Terms, check_beta, sign_of};

rule! {
    /// Sophia (Liu et al. 2023, arXiv 2305.14342): the running average of gradients, divided by that of the Hessian's
    /// diagonal and clipped to ±1 per element.
    ///
    /// `param *= 1 - lr·weight_decay`; `exp_avg = β₁·exp_avg + (1 - β₁)·grad`; then, by [`Sophia::curvature`],
    /// - Sophia-G: `param -= lr·clamp(exp_avg/(rho·bs·hessian + 1e-15), ±1)`, as the authors' `SophiaG`; or
    /// - Sophia-H: `param -= lr·clamp(exp_avg/(1 - β₁ᵗ)/max(gamma·hessian, eps), ±1)`, as `optax.contrib.sophia`.
    ///
    /// Pass an estimate of the Hessian to [`Optimizer::update_hessian`](crate::Optimizer::update_hessian) every few
    /// steps (in the paper 10): `hessian = β₂·hessian + (1 - β₂)·estimate`. Before the first estimate, `hessian` is 0
    /// and every update is ±lr.
    ///
    /// State: 8 bytes per parameter (`exp_avg`, `hessian`). Metric ([`Stats::rule_metric`](crate::Stats::rule_metric)):
    /// the win rate, the share of elements that are not clipped.
    Sophia = "sophia" from "the authors' code" {
        /// Learning rate; default 1e-4.
        lr: f64 = 1e-4, with_lr;
        /// β of the running averages of the gradient and of the Hessian; default (0.965, 0.99).
        betas: (f64, f64) = (0.965, 0.99), with_betas;
        /// Estimator of the Hessian; default Sophia-G with ρ 0.04 and a batch of 5,120.
        curvature: Curvature = Curvature::SampledLabels { rho: 0.04, bs: 5_120.0 }, with_curvature;
        /// Decoupled weight decay; default 0.1 (Sophia-H: 1e-4).
        weight_decay: f64 = 0.1, with_weight_decay;
        /// Ascend: gradients are negated, estimates are not; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants { Self::hutchinson() }
}

/// The estimator of the Hessian's diagonal in [`Sophia`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
pub enum Curvature {
    /// Sophia-G, the Gauss-Newton-Bartlett estimator. Each estimate is the gradient (the mean over a batch) for labels
    /// sampled from the output of the model. The rule squares it.
    SampledLabels {
        /// ρ. A larger ρ clips fewer elements.
        #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
        rho: f64,
        /// Number of samples in the batch (for language models: tokens).
        #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
        bs: f64,
    },
    /// Sophia-H, Hutchinson's estimator. Each estimate is `u ⊙ (Hessian·u)` for a random `u` of mean 0 and variance 1.
    Hutchinson {
        /// γ. A larger γ clips fewer elements.
        #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
        gamma: f64,
        /// Minimum of `gamma·hessian`, greater than 0. Estimates may be negative.
        #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
        eps: f64,
    },
}

#[cfg(feature = "serde")]
crate::number::as_is!(Curvature);

impl Sophia {
    /// Sophia-H with the defaults of `optax.contrib.sophia`: γ 0.01, eps 1e-8, weight decay 1e-4. optax updates the
    /// Hessian after the parameters: call `update_hessian` after `step` for the same order.
    pub fn hutchinson() -> Self {
        let curvature = Curvature::Hutchinson { gamma: 0.01, eps: 1e-8 };
        Self { curvature, weight_decay: 1e-4, ..Self::default() }
    }

    fn hyper(&self) -> Hyper {
        let (hessian_scale, eps) = match self.curvature {
            Curvature::SampledLabels { rho, bs } => (rho * bs, 1e-15),
            Curvature::Hutchinson { gamma, eps } => (gamma, eps),
        };
        Hyper {
            beta1: self.betas.0 as f32,
            one_minus_beta1: (1.0 - self.betas.0) as f32,
            beta2: self.betas.1 as f32,
            one_minus_beta2: (1.0 - self.betas.1) as f32,
            hessian_scale: hessian_scale as f32,
            eps: eps as f32,
        }
    }

    fn is_hutchinson(&self) -> bool {
        matches!(self.curvature, Curvature::Hutchinson { .. })
    }
}

struct Hyper {
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    hessian_scale: f32,
    eps: f32,
}

impl Hyper {
    /// `quotient` of the WGSL: numerator and denominator of the update before clipping.
    #[inline(always)]
    fn quotient(&self, exp_avg: f32, hessian: f32, bias_correction: f32, hutchinson: bool) -> [f32; 2] {
        let denom = self.hessian_scale * hessian;
        if hutchinson { [exp_avg / bias_correction, denom.max(self.eps)] } else { [exp_avg, denom + self.eps] }
    }
}

impl Rule for Sophia {
    fn spec(&self) -> RuleSpec {
        let Hyper { beta1, one_minus_beta1, beta2, one_minus_beta2, hessian_scale, eps } = self.hyper();
        common_spec!(self)
            .with_states([
                StateSpec::first_moment("exp_avg"),
                // Estimates from sampled labels are squares.
                if self.is_hutchinson() { StateSpec::first_moment("hessian") } else { StateSpec::second_moment("hessian") },
            ])
            .with_hyperparameters([
                ("beta1", beta1),
                ("one_minus_beta1", one_minus_beta1),
                ("beta2", beta2),
                ("one_minus_beta2", one_minus_beta2),
                ("hessian_scale", hessian_scale),
                ("eps", eps),
            ])
            .with_flags([("hutchinson", self.is_hutchinson())])
            .with_bias_corrected([self.betas.0])
    }
    fn validate(&self) -> Result<(), Error> {
        let owner = "sophia";
        check_beta(owner, "betas.0", self.betas.0)?;
        check_beta(owner, "betas.1", self.betas.1)?;
        let (rate, positive) = ("0 or greater, finite", "greater than 0 and finite in f32");
        match self.curvature {
            Curvature::SampledLabels { rho, bs } => {
                check(is_rate(rho), owner, "rho", rho, rate)?;
                check(is_rate(bs) && is_rate(rho * bs), owner, "bs", bs, "0 or greater, finite, as rho * bs is")
            }
            Curvature::Hutchinson { gamma, eps } => {
                check(is_rate(gamma), owner, "gamma", gamma, rate)?;
                check(is_rate(eps) && (eps as f32).is_normal(), owner, "eps", eps, positive)
            }
        }
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/sophia.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let hyper = self.hyper();
        let hutchinson = self.is_hutchinson();
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, hessian]| {
                let mut new_param = param - (step.lr * step.weight_decay) * param;
                let new_exp_avg = hyper.beta1 * exp_avg + hyper.one_minus_beta1 * grad;
                let [momentum, denom] = hyper.quotient(new_exp_avg, hessian, step.bias_correction[0], hutchinson);
                let clipped = if momentum.abs() >= denom { sign_of(momentum) } else { momentum / denom };
                new_param -= step.lr * clipped;
                (new_param, [new_exp_avg, hessian])
            },
        );
    }
    fn metric(&self) -> Option<&dyn Metric> {
        Some(self)
    }
    fn auxiliary_updates(&self) -> Option<&dyn AuxiliaryUpdates> {
        Some(self)
    }
}

impl Metric for Sophia {
    fn metric(&self, elements: Terms<'_>, step: &StepScalars) {
        let step = *step;
        let hyper = self.hyper();
        let hutchinson = self.is_hutchinson();
        elements.each(
            #[inline(always)]
            move |_, grad, [exp_avg, hessian]| {
                let new_exp_avg = hyper.beta1 * exp_avg + hyper.one_minus_beta1 * grad;
                let [momentum, denom] = hyper.quotient(new_exp_avg, hessian, step.bias_correction[0], hutchinson);
                [if momentum.abs() < denom { 1.0 } else { 0.0 }]
            },
        );
    }
}

impl AuxiliaryUpdates for Sophia {
    fn auxiliary_names(&self) -> &'static [&'static str] {
        &["update_hessian"]
    }
    fn auxiliary_update(&self, _name: &str, elements: Elements<'_>, _step: &StepScalars) {
        let hyper = self.hyper();
        let hutchinson = self.is_hutchinson();
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, hessian]| {
                let estimate = if hutchinson { grad } else { grad * grad };
                let new_hessian = hyper.beta2 * hessian + hyper.one_minus_beta2 * estimate;
                (param, [exp_avg, new_hessian])
            },
        );
    }
}
