use std::borrow::Cow;

use crate::Error;
use crate::error::check;
use crate::rule::{Elements, MeasuredElements, Rule, Segmentation, Step, average, check_beta, common_options, setters};

/// Prodigy (Mishchenko & Defazio 2023, arXiv 2306.06101), as `prodigyopt.Prodigy` 1.1: Adam that finds its own learning
/// rate from an estimate `d` of the distance to the solution.
///
/// With `dlr = d·lr` (times `√(1 - β₂ᵗ)/(1 - β₁ᵗ)` with `use_bias_correction`):
/// `exp_avg = β₁·exp_avg + (1 - β₁)·d·grad`; `exp_avg_sq = β₂·exp_avg_sq + (1 - β₂)·(d·grad)²`;
/// `s = β₃·s + d/d0·dlr·grad`; over all tensors together
/// `d_numerator = β₃·d_numerator + d/d0·dlr·Σ grad·(p0 - param)`, and the new `d` is the largest so far of `d0` and
/// `d_coef·d_numerator/Σ|s|`; `param *= 1 - dlr·weight_decay`;
/// `param -= dlr·exp_avg/(√exp_avg_sq + new d·eps)`. `p0` is the parameter before the first applied step.
///
/// Leave `lr` at 1, or let a schedule lead from 1 to 0. A step with learning rate 0, or with gradients that are all 0 so
/// far, changes nothing but `p0`. A group's learning-rate scale also weighs its share of the sums (prodigyopt allows 0
/// and 1).
///
/// Where it differs from prodigyopt: the bias correction counts every applied step, also those that change nothing; with
/// `betas.0` = 0 the gradient is multiplied by the `d` before the step, as in the paper, and not by the new one; a scale
/// of 0 leaves a group without weight decay.
///
/// Numbers are f32: at `d` = 1e-6 a parameter of 1 moves by some tens of its last digit, so that the first estimates of
/// `d` are good to a few percent, which later ones make up for. Where `d·grad` is below 3e-18, `exp_avg_sq` vanishes (at
/// β₂ = 0.999); `eps` then takes its place, as long as it is well above 1e-19/`d`. A non-finite gradient that is applied
/// leaves `d` where it is from then on.
///
/// State: 16 bytes per parameter (`exp_avg`, `exp_avg_sq`, `s`, `p0`), and 16 bytes in all: `d`, `d_max`, `d_numerator` and
/// the `d` before the last step ([`Optimizer::tensor_states`](crate::Optimizer::tensor_states)). A step is 5 dispatches: the
/// gradient's norm, the decision, the sums, their adding up, the update (per chunk: the first, third and fifth).
#[allow(clippy::struct_excessive_bools, reason = "each is an option of prodigyopt, under its name")]
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Prodigy {
    /// Learning rate, a factor of the one that is found; default 1.
    pub lr: f64,
    /// β of the gradient's and of the squared gradient's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// β of the sums that `d` is made from; default none, which is `√β₂`.
    pub beta3: Option<f64>,
    /// Added to the denominator, multiplied by `d`; greater than 0; default 1e-8.
    pub eps: f64,
    /// Weight decay; default 0.
    pub weight_decay: f64,
    /// Whether the weight decay is decoupled, as AdamW's, or added to the gradient; default true.
    pub decouple: bool,
    /// Whether the running averages are corrected for their start, as Adam's; default false.
    pub use_bias_correction: bool,
    /// Whether `s` is kept without the learning rate, for schedules with a warm-up; default false.
    pub safeguard_warmup: bool,
    /// First estimate of `d`; default 1e-6.
    pub d0: f64,
    /// Factor of the estimate of `d`, the option to tune; default 1.
    pub d_coef: f64,
    /// The most that `d` may grow by in a step, 1 or greater; default none.
    pub growth_rate: Option<f64>,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Prodigy {
    fn default() -> Self {
        Self {
            lr: 1.0,
            betas: (0.9, 0.999),
            beta3: None,
            eps: 1e-8,
            weight_decay: 0.0,
            decouple: true,
            use_bias_correction: false,
            safeguard_warmup: false,
            d0: 1e-6,
            d_coef: 1.0,
            growth_rate: None,
            maximize: false,
        }
    }
}

impl Prodigy {
    setters! {
        /// Sets [`Prodigy::lr`].
        with_lr(lr: f64),
        /// Sets [`Prodigy::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`Prodigy::beta3`].
        with_beta3(beta3: Option<f64>),
        /// Sets [`Prodigy::eps`].
        with_eps(eps: f64),
        /// Sets [`Prodigy::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Prodigy::decouple`].
        with_decouple(decouple: bool),
        /// Sets [`Prodigy::use_bias_correction`].
        with_use_bias_correction(use_bias_correction: bool),
        /// Sets [`Prodigy::safeguard_warmup`].
        with_safeguard_warmup(safeguard_warmup: bool),
        /// Sets [`Prodigy::d0`].
        with_d0(d0: f64),
        /// Sets [`Prodigy::d_coef`].
        with_d_coef(d_coef: f64),
        /// Sets [`Prodigy::growth_rate`].
        with_growth_rate(growth_rate: Option<f64>),
        /// Sets [`Prodigy::maximize`].
        with_maximize(maximize: bool),
    }

    fn beta_of_sums(&self) -> f64 {
        self.beta3.unwrap_or(self.betas.1.sqrt())
    }

    /// Twin of `decayed_grad` in `shaders/rule/prodigy.wgsl`, and so on.
    #[inline(always)]
    fn decayed_grad(&self, param: f32, grad: f32, step: &Step) -> f32 {
        if self.decouple {
            return grad;
        }
        grad + step.weight_decay * param
    }

    #[inline(always)]
    fn adapted_lr(&self, d: f32, step: &Step) -> f32 {
        if self.use_bias_correction {
            return (d * step.lr) * (step.bias_correction[1].sqrt() / step.bias_correction[0]);
        }
        d * step.lr
    }

    #[inline(always)]
    fn weighted_sum(&self, s: f32, decayed: f32, d: f32, step: &Step) -> f32 {
        let d0 = self.d0 as f32;
        let mut weight = d / d0 * self.adapted_lr(d, step);
        if self.safeguard_warmup {
            weight = d / d0 * d;
        }
        average(s, 0.0, self.beta_of_sums() as f32, (1.0 - self.beta_of_sums()) as f32) + weight * decayed
    }
}

fn first_param(param: f32, p0: f32, step: &Step) -> f32 {
    if step.t == 1 { param } else { p0 }
}

impl Rule for Prodigy {
    common_options!("prodigy");

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg", "exp_avg_sq", "s", "p0"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        vec![
            ("beta1", self.betas.0 as f32),
            ("one_minus_beta1", (1.0 - self.betas.0) as f32),
            ("beta2", self.betas.1 as f32),
            ("one_minus_beta2", (1.0 - self.betas.1) as f32),
            ("beta3", self.beta_of_sums() as f32),
            ("one_minus_beta3", (1.0 - self.beta_of_sums()) as f32),
            ("eps", self.eps as f32),
            ("d0", self.d0 as f32),
            ("d_coef", self.d_coef as f32),
            ("growth_rate_minus_one", (self.growth_rate.unwrap_or(1.0) - 1.0) as f32),
        ]
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        let flag = |value| f64::from(u8::from(value));
        vec![
            ("decouple", flag(self.decouple)),
            ("use_bias_correction", flag(self.use_bias_correction)),
            ("safeguard_warmup", flag(self.safeguard_warmup)),
            ("limited_growth", flag(self.growth_rate.is_some())),
        ]
    }
    fn bias_corrected(&self) -> Vec<f64> {
        vec![self.betas.0, self.betas.1]
    }
    fn measures(&self) -> Vec<&str> {
        vec!["numerator", "s_norm"]
    }
    fn segmentation(&self) -> Segmentation {
        Segmentation::Whole
    }
    fn tensor_states(&self) -> Vec<(&str, f32)> {
        let d0 = self.d0 as f32;
        vec![("d", d0), ("d_max", d0), ("d_numerator", 0.0), ("previous_d", d0)]
    }
    fn validate(&self) -> Result<(), Error> {
        let name = self.name();
        check_beta(name, "betas.0", self.betas.0)?;
        check_beta(name, "betas.1", self.betas.1)?;
        check_beta(name, "beta3", self.beta_of_sums())?;
        let (normal, allowed) =
            (|value: f64| (value as f32).is_normal() && value > 0.0, "greater than 0, normal in f32");
        check(normal(self.d0), name, "d0", self.d0, allowed)?;
        check(normal(self.d_coef), name, "d_coef", self.d_coef, allowed)?;
        let allowed = "greater than 0, normal in f32 even if multiplied by d0";
        check(normal(self.eps) && normal(self.eps * self.d0), name, "eps", self.eps, allowed)?;
        let Some(growth_rate) = self.growth_rate else { return Ok(()) };
        let allowed = growth_rate >= 1.0 && (growth_rate as f32).is_finite();
        check(allowed, name, "growth_rate", growth_rate, "1 or greater, finite")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        concat!(include_str!("../../shaders/rules/prodigy.wgsl"), include_str!("../../shaders/rule/average.wgsl"))
            .into()
    }
    fn measure(&self, elements: MeasuredElements<'_>, step: &Step) {
        let (rule, step) = (self.clone(), *step);
        let d = step.tensor[0];
        let weight = d / rule.d0 as f32 * rule.adapted_lr(d, &step);
        elements.each(
            #[inline(always)]
            move |param, grad, [_, _, s, p0]| {
                let decayed = rule.decayed_grad(param, grad, &step);
                let numerator = weight * (decayed * (first_param(param, p0, &step) - param));
                let new_s = rule.weighted_sum(s, decayed, d, &step);
                if step.lr == 0.0 { [0.0; 2] } else { [numerator, new_s.abs()] }
            },
        );
    }
    fn settle(&self, state: &mut [f32; 4], measured: [f32; 4], _: f32, _: [f32; 4], _: u32) {
        let [old_d, old_d_max, old_d_numerator, _] = *state;
        let [numerator, s_norm, ..] = measured;
        let remaining = average(old_d_numerator, 0.0, self.beta_of_sums() as f32, (1.0 - self.beta_of_sums()) as f32);
        let d_numerator = remaining + numerator;
        let d_hat = self.d_coef as f32 * d_numerator / s_norm;
        let d_max = if d_hat > old_d_max { d_hat } else { old_d_max };
        let mut d = d_max;
        if let Some(growth_rate) = self.growth_rate {
            let risen = if old_d == self.d0 as f32 && d_hat > old_d { d_hat } else { old_d };
            let limit = risen + risen * (growth_rate - 1.0) as f32;
            d = if limit < d_max { limit } else { d_max };
        }
        let settled = [d, d_max, d_numerator, old_d];
        *state = if s_norm == 0.0 { [old_d, old_d_max, old_d_numerator, old_d] } else { settled };
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let (rule, step) = (self.clone(), *step);
        let (beta1, one_minus_beta1) = (rule.betas.0 as f32, (1.0 - rule.betas.0) as f32);
        let (beta2, one_minus_beta2) = (rule.betas.1 as f32, (1.0 - rule.betas.1) as f32);
        let ([new_d, _, _, d], s_norm) = (step.tensor, step.measured[1]);
        let dlr = rule.adapted_lr(d, &step);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_sq, s, p0]| {
                let decayed = rule.decayed_grad(param, grad, &step);
                let scaled = d * decayed;
                let new_exp_avg = average(exp_avg, scaled, beta1, one_minus_beta1);
                let new_exp_avg_sq = average(exp_avg_sq, scaled * scaled, beta2, one_minus_beta2);
                let new_s = rule.weighted_sum(s, decayed, d, &step);
                let mut new_param = param;
                if rule.decouple {
                    new_param = param - (dlr * step.weight_decay) * param;
                }
                let denom = new_exp_avg_sq.sqrt() + new_d * rule.eps as f32;
                new_param -= dlr * (new_exp_avg / denom);

                let new_p0 = first_param(param, p0, &step);
                if step.lr == 0.0 {
                    return (param, [exp_avg, exp_avg_sq, s, new_p0]);
                }
                (if s_norm == 0.0 { param } else { new_param }, [new_exp_avg, new_exp_avg_sq, new_s, new_p0])
            },
        );
    }
}
