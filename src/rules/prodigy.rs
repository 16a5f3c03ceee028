use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::error::check;
use crate::rule::{Elements, ReduceBy, Reduction, Rule, RuleSpec, StateSpec, StepScalars, TensorState, Terms, check_beta, lerp};

rule! {
    /// Prodigy (Mishchenko & Defazio 2023, arXiv 2306.06101), as `prodigyopt.Prodigy` 1.1: Adam with a learning rate
    /// from an estimate `d` of the distance to the solution.
    ///
    /// - `dlr = d·lr`, with `use_bias_correction` times `√(1 - β₂ᵗ)/(1 - β₁ᵗ)`.
    /// - `exp_avg = β₁·exp_avg + (1 - β₁)·d·grad`; `exp_avg_sq = β₂·exp_avg_sq + (1 - β₂)·(d·grad)²`;
    ///   `s = β₃·s + d/d0·dlr·grad`.
    /// - Over all tensors: `d_numerator = β₃·d_numerator + d/d0·dlr·Σ grad·(p0 - param)`. The new `d` is the maximum so
    ///   far of `d0` and `d_coef·d_numerator/Σ|s|`.
    /// - `param *= 1 - dlr·weight_decay`; `param -= dlr·exp_avg/(√exp_avg_sq + new d·eps)`.
    ///
    /// `p0` is the parameter before the first applied step.
    ///
    /// Leave `lr` at 1, or let a schedule lead from 1 to 0. A step with learning rate 0 updates only `p0`; so does a
    /// step before the first gradient that is not 0. The learning-rate scale of a group also scales its summands
    /// (prodigyopt allows 0 and 1).
    ///
    /// # Differences
    /// - The bias correction counts every applied step, also those that change no parameter.
    /// - With `betas.0` = 0 the factor of the gradient is the `d` before the step, as in the paper. prodigyopt's is the
    ///   new one.
    /// - A group with scale 0 has no weight decay.
    ///
    /// # Precision
    /// All numbers are f32. At `d` = 1e-6 a parameter of 1 moves by some tens of its last digit. The first estimates of
    /// `d` are then good to a few percent; later ones compensate.
    ///
    /// `exp_avg_sq` underflows (at β₂ = 0.999) for `d·grad` below 3e-18. `eps` then replaces it, if it is well
    /// above 1e-19/`d`. An applied gradient that is not finite fixes `d` from then on.
    ///
    /// State: 16 bytes per parameter (`exp_avg`, `exp_avg_sq`, `s`, `p0`), and 16 bytes in all: `d`, `d_max`,
    /// `d_numerator` and the `d` before the last step
    /// ([`Optimizer::tensor_states`](crate::Optimizer::tensor_states)). Dispatches: five, three of them per chunk.
    Prodigy = "prodigy" from "prodigyopt" {
        /// Factor of the estimated learning rate; default 1.
        lr: f64 = 1.0, with_lr;
        /// β of the running averages of the gradient and of its square; default (0.9, 0.999).
        betas: (f64, f64) = (0.9, 0.999), with_betas;
        /// β of `s` and `d_numerator`; default none, `√β₂`.
        beta3: Option<f64> = None, with_beta3;
        /// Added to the denominator after multiplication by `d`, greater than 0; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Weight decay; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Decouple the weight decay, as AdamW, instead of adding it to the gradient; default true.
        decouple: bool = true, with_decouple;
        /// Correct the bias of the running averages, as Adam; default false.
        use_bias_correction: bool = false, with_use_bias_correction;
        /// Leave the learning rate out of `s`, for schedules with a warm-up; default false.
        safeguard_warmup: bool = false, with_safeguard_warmup;
        /// First estimate of `d`; default 1e-6.
        d0: f64 = 1e-6, with_d0;
        /// Factor of the estimates of `d`, the option to tune; default 1.
        d_coef: f64 = 1.0, with_d_coef;
        /// Maximum growth of `d` in a step, as a factor of 1 or greater; default none.
        growth_rate: Option<f64> = None, with_growth_rate;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants {
        Self::default().with_decouple(false).with_use_bias_correction(true),
        Self::default().with_safeguard_warmup(true).with_growth_rate(Some(1.02)),
    }
}

impl Prodigy {
    fn beta_of_sums(&self) -> f64 {
        self.beta3.unwrap_or(self.betas.1.sqrt())
    }

    /// `decayed_grad` of the WGSL.
    #[inline(always)]
    fn decayed_grad(&self, param: f32, grad: f32, step: &StepScalars) -> f32 {
        if self.decouple {
            return grad;
        }
        grad + step.weight_decay * param
    }

    /// `adapted_lr` of the WGSL.
    #[inline(always)]
    fn adapted_lr(&self, d: f32, step: &StepScalars) -> f32 {
        if self.use_bias_correction {
            return (d * step.lr) * (step.bias_correction[1].sqrt() / step.bias_correction[0]);
        }
        d * step.lr
    }

    /// `weighted_sum` of the WGSL.
    #[inline(always)]
    fn weighted_sum(&self, s: f32, decayed: f32, d: f32, step: &StepScalars) -> f32 {
        let d0 = self.d0 as f32;
        let mut weight = d / d0 * self.adapted_lr(d, step);
        if self.safeguard_warmup {
            weight = d / d0 * d;
        }
        lerp(s, 0.0, self.beta_of_sums() as f32, (1.0 - self.beta_of_sums()) as f32) + weight * decayed
    }
}

/// `first_param` of the WGSL.
fn first_param(param: f32, p0: f32, step: &StepScalars) -> f32 {
    if step.is_first { param } else { p0 }
}

impl Rule for Prodigy {
    fn spec(&self) -> RuleSpec {
        common_spec!(self)
            .with_states([
                StateSpec::first_moment("exp_avg"),
                StateSpec::second_moment("exp_avg_sq"),
                StateSpec::new("s"),
                StateSpec::new("p0").as_param(),
            ])
            .with_hyperparameters([
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
            ])
            .with_flags([
                ("decouple", self.decouple),
                ("use_bias_correction", self.use_bias_correction),
                ("safeguard_warmup", self.safeguard_warmup),
                ("limited_growth", self.growth_rate.is_some()),
            ])
            .with_bias_corrected([self.betas.0, self.betas.1])
    }
    fn validate(&self) -> Result<(), Error> {
        let name = "prodigy";
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
        include_str!("../../shaders/rules/prodigy.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let (rule, step) = (self.clone(), *step);
        let (beta1, one_minus_beta1) = (rule.betas.0 as f32, (1.0 - rule.betas.0) as f32);
        let (beta2, one_minus_beta2) = (rule.betas.1 as f32, (1.0 - rule.betas.1) as f32);
        let ([new_d, _, _, d], s_norm) = (step.tensor_state, step.sums[1]);
        let dlr = rule.adapted_lr(d, &step);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_sq, s, p0]| {
                let decayed = rule.decayed_grad(param, grad, &step);
                let scaled = d * decayed;
                let new_exp_avg = lerp(exp_avg, scaled, beta1, one_minus_beta1);
                let new_exp_avg_sq = lerp(exp_avg_sq, scaled * scaled, beta2, one_minus_beta2);
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
    fn reduction(&self) -> Option<&dyn Reduction> {
        Some(self)
    }
}

impl Reduction for Prodigy {
    fn sums(&self) -> Vec<&'static str> {
        vec!["numerator", "s_norm"]
    }
    fn by(&self) -> ReduceBy {
        ReduceBy::All
    }
    fn terms(&self, elements: Terms<'_>, step: &StepScalars) {
        let (rule, step) = (self.clone(), *step);
        let d = step.tensor_state[0];
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
    fn tensor_state(&self) -> Option<&dyn TensorState> {
        Some(self)
    }
}

impl TensorState for Prodigy {
    fn initial_tensor_state(&self) -> Vec<(&'static str, f32)> {
        let d0 = self.d0 as f32;
        vec![("d", d0), ("d_max", d0), ("d_numerator", 0.0), ("previous_d", d0)]
    }
    fn update_tensor_state(&self, state: &mut [f32; 4], sums: [f32; 4], _: f32, _: [f32; 4], _: u32, _: bool) {
        let [old_d, old_d_max, old_d_numerator, _] = *state;
        let [numerator, s_norm, ..] = sums;
        let remaining = lerp(old_d_numerator, 0.0, self.beta_of_sums() as f32, (1.0 - self.beta_of_sums()) as f32);
        let d_numerator = remaining + numerator;
        let d_hat = self.d_coef as f32 * d_numerator / s_norm;
        let d_max = if d_hat > old_d_max { d_hat } else { old_d_max };
        let mut d = d_max;
        if let Some(growth_rate) = self.growth_rate {
            let risen = if old_d == self.d0 as f32 && d_hat > old_d { d_hat } else { old_d };
            let limit = risen + risen * (growth_rate - 1.0) as f32;
            d = if limit < d_max { limit } else { d_max };
        }
        let updated = [d, d_max, d_numerator, old_d];
        *state = if s_norm == 0.0 { [old_d, old_d_max, old_d_numerator, old_d] } else { updated };
    }
}
