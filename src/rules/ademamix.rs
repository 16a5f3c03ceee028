use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, check_beta, check_rate, lerp};

rule! {
    /// `AdEMAMix` (Pagliardini et al. 2024, arXiv 2409.03137), as `optax.contrib.ademamix`: `AdamW` with a second, much
    /// slower running average of the gradient, which is not bias-corrected.
    ///
    /// `exp_avg_slow = β₃·exp_avg_slow + (1 - β₃)·grad`;
    /// `param -= lr·(exp_avg/(1 - β₁ᵗ) + alpha·exp_avg_slow) / (√(exp_avg_sq/(1 - β₂ᵗ)) + eps)` after
    /// `param *= 1 - lr·weight_decay`.
    ///
    /// The paper's warm-ups (section 3) follow the applied steps on the device, under bitsandbytes' names. `t_alpha`:
    /// α is `min(t·alpha/t_alpha, alpha)`. `t_beta3`: β₃ is
    /// `exp(ln β₁·ln β₃ / ((1 - s)·ln β₃ + s·ln β₁))` with `s = t/t_beta3` until s = 1; 1 - β₃ is within 8 ULP.
    ///
    /// State: 12 bytes per parameter (`exp_avg`, `exp_avg_slow`, `exp_avg_sq`).
    AdEMAMix = "ademamix" from "optax" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// β of the running averages of gradient (fast), square, and gradient (slow); default (0.9, 0.999, 0.9999).
        betas: (f64, f64, f64) = (0.9, 0.999, 0.9999), with_betas;
        /// Share of the slow average; default 5.
        alpha: f64 = 5.0, with_alpha;
        /// Steps over which alpha grows from 0, 1 to 2²⁴; default none.
        t_alpha: Option<u32> = None, with_t_alpha;
        /// Steps over which β₃ grows from β₁, 1 to 2²⁴. Requires 0.5 ≤ β₁ ≤ β₃; default none.
        t_beta3: Option<u32> = None, with_t_beta3;
        /// Added to the denominator; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Decoupled weight decay; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants { Self::default().with_t_alpha(Some(100)).with_t_beta3(Some(100)) }
}

impl AdEMAMix {
    fn hyper(&self) -> Hyper {
        let (beta1, beta2, beta3) = self.betas;
        let t_beta3 = f64::from(self.t_beta3.unwrap_or(0));
        // Without a warm-up β₁ and β₃ may be 0, which has no logarithm.
        let (ln_beta1, ln_beta3) = if self.t_beta3.is_some() { (beta1.ln(), beta3.ln()) } else { (0.0, 0.0) };
        Hyper {
            beta1: beta1 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            one_minus_beta3: (1.0 - beta3) as f32,
            alpha: self.alpha as f32,
            // Without a warm-up the first step has all of alpha.
            alpha_per_step: (self.alpha / f64::from(self.t_alpha.unwrap_or(1))) as f32,
            eps: self.eps as f32,
            t_beta3: t_beta3 as f32,
            minus_ln_beta1: -ln_beta1 as f32,
            minus_ln_beta3: -ln_beta3 as f32,
            half_lives: (ln_beta1 * ln_beta3 * t_beta3) as f32,
        }
    }
}

struct Hyper {
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    one_minus_beta3: f32,
    alpha: f32,
    alpha_per_step: f32,
    eps: f32,
    t_beta3: f32,
    minus_ln_beta1: f32,
    minus_ln_beta3: f32,
    half_lives: f32,
}

/// `one_minus_slow_beta` of the WGSL. Without a warm-up `t_beta3` is 0.
///
/// With u = 2⁻²⁴: z is within 9u (a numerator of u, a denominator of 3u, a division of 5u), and so is 1 - e⁻ᶻ. The
/// series adds 5u (divisions by 2 of a z up to ln 2), its product 1u: 15u, within 8 ULP.
fn one_minus_slow_beta(hyper: &Hyper, t: f32) -> f32 {
    if t >= hyper.t_beta3 {
        return hyper.one_minus_beta3;
    }
    let z = hyper.half_lives / ((hyper.t_beta3 - t) * hyper.minus_ln_beta3 + t * hyper.minus_ln_beta1);
    let mut series = 1.0;
    for k in (2u8..10).rev() {
        series = 1.0 - (z / f32::from(k)) * series;
    }
    z * series
}

impl Rule for AdEMAMix {
    fn spec(&self) -> RuleSpec {
        let hyper = self.hyper();
        common_spec!(self)
            .with_states([
                StateSpec::first_moment("exp_avg"),
                StateSpec::first_moment("exp_avg_slow"),
                StateSpec::second_moment("exp_avg_sq"),
            ])
            .with_hyperparameters([
                ("beta1", hyper.beta1),
                ("one_minus_beta1", hyper.one_minus_beta1),
                ("beta2", hyper.beta2),
                ("one_minus_beta2", hyper.one_minus_beta2),
                ("one_minus_beta3", hyper.one_minus_beta3),
                ("alpha", hyper.alpha),
                ("alpha_per_step", hyper.alpha_per_step),
                ("eps", hyper.eps),
                ("t_beta3", hyper.t_beta3),
                ("minus_ln_beta1", hyper.minus_ln_beta1),
                ("minus_ln_beta3", hyper.minus_ln_beta3),
                ("half_lives", hyper.half_lives),
            ])
            .with_flags([("beta3_warmup", self.t_beta3.is_some())])
            .with_bias_corrected([self.betas.0, self.betas.1])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("ademamix", "betas.0", self.betas.0)?;
        check_beta("ademamix", "betas.1", self.betas.1)?;
        check_beta("ademamix", "betas.2", self.betas.2)?;
        check_rate("ademamix", "eps", self.eps)?;
        let alpha = self.alpha;
        check(alpha >= 0.0 && (alpha as f32).is_finite(), "ademamix", "alpha", alpha, "0 or greater, finite")?;
        for (name, steps) in [("t_alpha", self.t_alpha), ("t_beta3", self.t_beta3)] {
            // f32 counts single steps up to 2²⁴.
            let ok = steps.is_none_or(|steps| (1..=1 << 24).contains(&steps));
            check(ok, "ademamix", name, steps.unwrap_or(0).into(), "1 to 2^24 steps, or none")?;
        }
        if self.t_beta3.is_some() {
            let (from, to) = (self.betas.0, self.betas.2);
            check(from >= 0.5, "ademamix", "betas.0", from, "0.5 or greater with t_beta3")?;
            check(to >= from, "ademamix", "betas.2", to, "at least betas.0 with t_beta3")?;
        }
        Ok(())
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/ademamix.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let hyper = self.hyper();
        let one_minus_beta3 = one_minus_slow_beta(&hyper, step.t as f32);
        let alpha = (step.t as f32 * hyper.alpha_per_step).min(hyper.alpha);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_slow, exp_avg_sq]| {
                let new_exp_avg = lerp(exp_avg, grad, hyper.beta1, hyper.one_minus_beta1);
                let new_exp_avg_slow = lerp(exp_avg_slow, grad, 1.0 - one_minus_beta3, one_minus_beta3);
                let new_exp_avg_sq = lerp(exp_avg_sq, grad * grad, hyper.beta2, hyper.one_minus_beta2);
                let mixed = new_exp_avg / step.bias_correction[0] + alpha * new_exp_avg_slow;
                let denom = (new_exp_avg_sq / step.bias_correction[1]).sqrt() + hyper.eps;
                let decay = (step.lr * step.weight_decay) * param;
                let new_param = param - (decay + step.lr * (mixed / denom));
                (new_param, [new_exp_avg, new_exp_avg_slow, new_exp_avg_sq])
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_beta_warms_up_as_exactly_as_promised() {
        for (beta1, beta3, t_beta3) in
            [(0.9, 0.9999, 1000), (0.5, 0.999, 70), (0.9, 0.9, 10), (0.95, 0.999_999, 65_536)]
        {
            let rule = AdEMAMix::default().with_betas((beta1, 0.999, beta3)).with_t_beta3(Some(t_beta3));
            rule.validate().expect("in range");
            let hyper = rule.hyper();
            for t in 1..=t_beta3 + 1 {
                let s = (f64::from(t) / f64::from(t_beta3)).min(1.0);
                let ln_beta = beta1.ln() * beta3.ln() / ((1.0 - s) * beta3.ln() + s * beta1.ln());
                let (exact, got) = (-ln_beta.exp_m1(), f64::from(one_minus_slow_beta(&hyper, t as f32)));
                let error = (got - exact).abs() / exact * f64::from(1 << 24);
                assert!(error <= 16.0, "{beta1} to {beta3} in {t_beta3} steps, t {t}: {got} for {exact}");
            }
        }
    }
}
