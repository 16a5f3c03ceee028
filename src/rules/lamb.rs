use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Reduction, Rule, RuleSpec, StateSpec, StepScalars, Terms, check_beta, lerp};

rule! {
    /// LAMB (You et al. 2020, arXiv 1904.00962): AdamW's direction, scaled per tensor to the norm of the tensor.
    ///
    /// `update = (exp_avg/(1 - β₁ᵗ))/(√exp_avg_sq/√(1 - β₂ᵗ) + eps) + weight_decay·param`;
    /// `param -= lr·‖param‖/‖update‖·update`, with a ratio of 1 where a norm is 0.
    ///
    /// The default is apex's `FusedLAMB` without its built-in clipping (see [`Clip`](crate::Clip)): tensors without
    /// weight decay keep the ratio 1.
    ///
    /// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`). Dispatches: five, three of them per chunk.
    Lamb = "lamb" from "apex" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// β of the running averages of the gradient and of its square; default (0.9, 0.999).
        betas: (f64, f64) = (0.9, 0.999), with_betas;
        /// Added to the denominator; default 1e-6.
        eps: f64 = 1e-6, with_eps;
        /// Weight decay, added to the update before its norm; default 1e-2.
        weight_decay: f64 = 1e-2, with_weight_decay;
        /// Whether tensors without weight decay have a ratio too (apex's `use_nvlamb`; always in optax); default false.
        nvlamb: bool = false, with_nvlamb;
        /// Minimum and maximum of the ratio, in DeepSpeed (0.01, 10); default none.
        ratio_range: Option<(f64, f64)> = None, with_ratio_range;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets { apex: "nothing", optax: "every tensor has a ratio; weight decay 0" }
    variants { Self::optax().with_ratio_range(Some((0.01, 10.0))) }
}

impl Lamb {
    /// apex's `FusedLAMB`: the default.
    pub fn apex() -> Self {
        Self::default()
    }

    /// `optax.lamb`: every tensor has a ratio; weight decay 0. optax has no default learning rate; this keeps 1e-3.
    pub fn optax() -> Self {
        Self { nvlamb: true, weight_decay: 0.0, ..Self::default() }
    }

    /// `moments` of the WGSL.
    #[inline(always)]
    fn moments(&self, grad: f32, exp_avg: f32, exp_avg_sq: f32) -> (f32, f32) {
        let (beta1, one_minus_beta1) = (self.betas.0 as f32, (1.0 - self.betas.0) as f32);
        let (beta2, one_minus_beta2) = (self.betas.1 as f32, (1.0 - self.betas.1) as f32);
        let new_exp_avg = lerp(exp_avg, grad, beta1, one_minus_beta1);
        let new_exp_avg_sq = lerp(exp_avg_sq, grad * grad, beta2, one_minus_beta2);
        (new_exp_avg, new_exp_avg_sq)
    }

    /// `direction` of the WGSL.
    #[inline(always)]
    fn direction(&self, param: f32, exp_avg: f32, exp_avg_sq: f32, step: &StepScalars) -> f32 {
        let denom = exp_avg_sq.sqrt() / step.bias_correction[1].sqrt() + self.eps as f32;
        (exp_avg / step.bias_correction[0]) / denom + step.weight_decay * param
    }

    /// `trust_ratio` of the WGSL.
    #[inline(always)]
    fn trust_ratio(&self, step: &StepScalars) -> f32 {
        let [param_sq, update_sq, ..] = step.sums;
        let (param_norm, update_norm) = (param_sq.sqrt(), update_sq.sqrt());
        let mut ratio = param_norm / update_norm;
        if let Some((min_ratio, max_ratio)) = self.ratio_range {
            ratio = ratio.clamp(min_ratio as f32, max_ratio as f32);
        }
        let vanishes = param_norm == 0.0 || update_norm == 0.0;
        let plain = !self.nvlamb && step.weight_decay == 0.0;
        if vanishes || plain { 1.0 } else { ratio }
    }
}

impl Rule for Lamb {
    fn spec(&self) -> RuleSpec {
        let (min_ratio, max_ratio) = self.ratio_range.unwrap_or_default();
        common_spec!(self)
            .with_states([StateSpec::first_moment("exp_avg"), StateSpec::second_moment("exp_avg_sq")])
            .with_hyperparameters([
                ("beta1", self.betas.0 as f32),
                ("one_minus_beta1", (1.0 - self.betas.0) as f32),
                ("beta2", self.betas.1 as f32),
                ("one_minus_beta2", (1.0 - self.betas.1) as f32),
                ("eps", self.eps as f32),
                ("min_ratio", min_ratio as f32),
                ("max_ratio", max_ratio as f32),
            ])
            .with_flags([("nvlamb", self.nvlamb), ("limited", self.ratio_range.is_some())])
            .with_bias_corrected([self.betas.0, self.betas.1])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("lamb", "betas.0", self.betas.0)?;
        check_beta("lamb", "betas.1", self.betas.1)?;
        let eps = self.eps;
        check(eps >= 0.0 && (eps as f32).is_finite(), "lamb", "eps", eps, "0 or greater, finite")?;
        let Some((min_ratio, max_ratio)) = self.ratio_range else { return Ok(()) };
        check(min_ratio >= 0.0, "lamb", "ratio_range.0", min_ratio, "0 or greater")?;
        let in_order = max_ratio >= min_ratio && (max_ratio as f32).is_finite();
        check(in_order, "lamb", "ratio_range.1", max_ratio, "no less than ratio_range.0, finite")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/lamb.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let (rule, step) = (self.clone(), *step);
        let trust_ratio = rule.trust_ratio(&step);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_sq]| {
                let (new_exp_avg, new_exp_avg_sq) = rule.moments(grad, exp_avg, exp_avg_sq);
                let update = rule.direction(param, new_exp_avg, new_exp_avg_sq, &step);
                let new_param = param - (step.lr * trust_ratio) * update;
                (new_param, [new_exp_avg, new_exp_avg_sq])
            },
        );
    }
    fn reduction(&self) -> Option<&dyn Reduction> {
        Some(self)
    }
}

impl Reduction for Lamb {
    fn sums(&self) -> Vec<&'static str> {
        vec!["param_sq", "update_sq"]
    }
    fn terms(&self, elements: Terms<'_>, step: &StepScalars) {
        let (rule, step) = (self.clone(), *step);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_sq]| {
                let (new_exp_avg, new_exp_avg_sq) = rule.moments(grad, exp_avg, exp_avg_sq);
                let update = rule.direction(param, new_exp_avg, new_exp_avg_sq, &step);
                [param * param, update * update]
            },
        );
    }
}
