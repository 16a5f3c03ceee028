use std::borrow::Cow;

use crate::Error;
use crate::error::check;
use crate::rule::{Elements, MeasuredElements, Rule, Step, average, check_beta, common_options, setters};

/// LAMB (You et al. 2020, arXiv 1904.00962): AdamW's direction, each tensor's scaled to the tensor's own norm.
///
/// `update = (exp_avg/(1 - β₁ᵗ))/(√exp_avg_sq/√(1 - β₂ᵗ) + eps) + weight_decay·param`;
/// `param -= lr·‖param‖/‖update‖·update`, with a ratio of 1 where a norm is 0.
///
/// The default convention and its defaults are those of apex's `FusedLAMB` (without its built-in clipping: see
/// [`Clip`](crate::Clip)): tensors without weight decay keep the ratio 1. [`Lamb::optax`] has the other.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`). A step is 5 dispatches: the gradient's norm, the decision, the
/// tensors' sums, their adding up, the update (per chunk: the first, third and fifth).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Lamb {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// β of the gradient's and of the squared gradient's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-6.
    pub eps: f64,
    /// Weight decay, added to the update before its norm is taken; default 1e-2.
    pub weight_decay: f64,
    /// Whether tensors without weight decay have a ratio too (apex's `use_nvlamb`; always so in optax); default false.
    pub nvlamb: bool,
    /// Limits of the ratio, as DeepSpeed's (0.01, 10); default none.
    pub ratio_range: Option<(f64, f64)>,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Lamb {
    fn default() -> Self {
        Self::apex()
    }
}

impl Lamb {
    /// The convention and the defaults of apex's `FusedLAMB`.
    pub fn apex() -> Self {
        Self {
            lr: 1e-3,
            betas: (0.9, 0.999),
            eps: 1e-6,
            weight_decay: 1e-2,
            nvlamb: false,
            ratio_range: None,
            maximize: false,
        }
    }

    /// The convention and the defaults of `optax.lamb`: every tensor has a ratio; weight decay 0. (optax has no default
    /// lr; here it is 1e-3.)
    pub fn optax() -> Self {
        Self { nvlamb: true, weight_decay: 0.0, ..Self::apex() }
    }

    setters! {
        /// Sets [`Lamb::lr`].
        with_lr(lr: f64),
        /// Sets [`Lamb::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`Lamb::eps`].
        with_eps(eps: f64),
        /// Sets [`Lamb::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Lamb::nvlamb`].
        with_nvlamb(nvlamb: bool),
        /// Sets [`Lamb::ratio_range`].
        with_ratio_range(ratio_range: Option<(f64, f64)>),
        /// Sets [`Lamb::maximize`].
        with_maximize(maximize: bool),
    }

    /// Twin of `moments` in `shaders/rule/lamb.wgsl`.
    #[inline(always)]
    fn moments(&self, grad: f32, exp_avg: f32, exp_avg_sq: f32) -> (f32, f32) {
        let (beta1, one_minus_beta1) = (self.betas.0 as f32, (1.0 - self.betas.0) as f32);
        let (beta2, one_minus_beta2) = (self.betas.1 as f32, (1.0 - self.betas.1) as f32);
        let new_exp_avg = average(exp_avg, grad, beta1, one_minus_beta1);
        let new_exp_avg_sq = average(exp_avg_sq, grad * grad, beta2, one_minus_beta2);
        (new_exp_avg, new_exp_avg_sq)
    }

    /// Twin of `direction` in `shaders/rule/lamb.wgsl`.
    #[inline(always)]
    fn direction(&self, param: f32, exp_avg: f32, exp_avg_sq: f32, step: &Step) -> f32 {
        let denom = exp_avg_sq.sqrt() / step.bias_correction[1].sqrt() + self.eps as f32;
        (exp_avg / step.bias_correction[0]) / denom + step.weight_decay * param
    }

    /// Twin of `trust_ratio` in `shaders/rule/lamb.wgsl`.
    #[inline(always)]
    fn trust_ratio(&self, step: &Step) -> f32 {
        let [param_sq, update_sq, ..] = step.measured;
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
    common_options!("lamb");

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg", "exp_avg_sq"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        let (min_ratio, max_ratio) = self.ratio_range.unwrap_or_default();
        vec![
            ("beta1", self.betas.0 as f32),
            ("one_minus_beta1", (1.0 - self.betas.0) as f32),
            ("beta2", self.betas.1 as f32),
            ("one_minus_beta2", (1.0 - self.betas.1) as f32),
            ("eps", self.eps as f32),
            ("min_ratio", min_ratio as f32),
            ("max_ratio", max_ratio as f32),
        ]
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        vec![("nvlamb", f64::from(u8::from(self.nvlamb))), ("limited", f64::from(u8::from(self.ratio_range.is_some())))]
    }
    fn bias_corrected(&self) -> Vec<f64> {
        vec![self.betas.0, self.betas.1]
    }
    fn measures(&self) -> Vec<&str> {
        vec!["param_sq", "update_sq"]
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)?;
        let eps = self.eps;
        check(eps >= 0.0 && (eps as f32).is_finite(), self.name(), "eps", eps, "0 or greater, finite")?;
        let Some((min_ratio, max_ratio)) = self.ratio_range else { return Ok(()) };
        check(min_ratio >= 0.0, self.name(), "ratio_range.0", min_ratio, "0 or greater")?;
        let in_order = max_ratio >= min_ratio && (max_ratio as f32).is_finite();
        check(in_order, self.name(), "ratio_range.1", max_ratio, "no less than ratio_range.0, finite")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        concat!(include_str!("../../shaders/rules/lamb.wgsl"), include_str!("../../shaders/rule/average.wgsl")).into()
    }
    fn measure(&self, elements: MeasuredElements<'_>, step: &Step) {
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
    fn update(&self, elements: Elements<'_>, step: &Step) {
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
}
