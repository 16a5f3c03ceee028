use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::rule::{Elements, Reduction, Rule, RuleSpec, StateSpec, StepScalars, Terms, check_beta, check_rate, lerp, maximum};

rule! {
    /// `StableAdamW` (Wortsman et al. 2023, arXiv 2304.13013), as optimi's: AdamW with Adafactor's update clipping. It
    /// divides the learning rate of a tensor whose gradients exceed their running averages.
    ///
    /// `root = √(exp_avg_sq/(1 - β₂ᵗ))`, after the update of `exp_avg_sq`; `rms = √mean((grad/max(root, eps))²)` over
    /// the tensor; `lr /= max(1, rms)`; `param *= 1 - lr·weight_decay`;
    /// `param -= lr/(1 - β₁ᵗ) · exp_avg / (root + eps)`. Frozen elements do not count in the mean.
    ///
    /// # Differences
    /// - optimi stores averages with bias correction. The states here are [`AdamW`](crate::AdamW)'s, without it.
    /// - optimi computes `grad²/max(root², eps²)`, the same number. With the root, the square of a small `eps`
    ///   cannot underflow.
    /// - optimi ignores an RMS of NaN. Here the whole tensor becomes NaN.
    /// - The authors' code, `StableAdamWUnfused`, decays by the undivided learning rate. Its defaults are a learning
    ///   rate of 2e-3 and a weight decay of 0.2.
    /// - optimi's `decouple_lr` and `kahan_sum` are missing.
    ///
    /// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`). Dispatches: five, three of them per chunk.
    StableAdamW = "stable_adamw" from "optimi" {
        /// Learning rate; default 1e-3. optimi has no default.
        lr: f64 = 1e-3, with_lr;
        /// β of the running averages of the gradient and of its square; default (0.9, 0.99).
        betas: (f64, f64) = (0.9, 0.99), with_betas;
        /// Minimum of the root in the RMS, and added to the denominator; default 1e-6.
        eps: f64 = 1e-6, with_eps;
        /// Decoupled weight decay, multiplied by the divided learning rate; default 1e-2.
        weight_decay: f64 = 1e-2, with_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants {}
}

impl StableAdamW {
    /// `second_moment` of the WGSL.
    #[inline(always)]
    fn second_moment(&self, grad: f32, exp_avg_sq: f32) -> f32 {
        lerp(exp_avg_sq, grad * grad, self.betas.1 as f32, (1.0 - self.betas.1) as f32)
    }

    /// `root` of the WGSL.
    #[inline(always)]
    fn root(exp_avg_sq: f32, step: &StepScalars) -> f32 {
        exp_avg_sq.sqrt() / step.bias_correction[1].sqrt()
    }

    /// `stable_lr` of the WGSL.
    #[inline(always)]
    fn stable_lr(step: &StepScalars) -> f32 {
        let [ratio_sq, count, ..] = step.sums;
        let rms = (ratio_sq / count).sqrt();
        step.lr / maximum(rms, 1.0)
    }
}

impl Rule for StableAdamW {
    fn spec(&self) -> RuleSpec {
        common_spec!(self)
            .with_states([StateSpec::first_moment("exp_avg"), StateSpec::second_moment("exp_avg_sq")])
            .with_hyperparameters([
                ("beta1", self.betas.0 as f32),
                ("one_minus_beta1", (1.0 - self.betas.0) as f32),
                ("beta2", self.betas.1 as f32),
                ("one_minus_beta2", (1.0 - self.betas.1) as f32),
                ("eps", self.eps as f32),
            ])
            .with_bias_corrected([self.betas.0, self.betas.1])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("stable_adamw", "betas.0", self.betas.0)?;
        check_beta("stable_adamw", "betas.1", self.betas.1)?;
        check_rate("stable_adamw", "eps", self.eps)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/stable_adamw.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let (rule, step) = (self.clone(), *step);
        let (beta1, one_minus_beta1) = (self.betas.0 as f32, (1.0 - self.betas.0) as f32);
        let lr = Self::stable_lr(&step);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_sq]| {
                let new_exp_avg = lerp(exp_avg, grad, beta1, one_minus_beta1);
                let new_exp_avg_sq = rule.second_moment(grad, exp_avg_sq);
                let denom = Self::root(new_exp_avg_sq, &step) + rule.eps as f32;
                let decay = (lr * step.weight_decay) * param;
                let change = (lr / step.bias_correction[0]) * (new_exp_avg / denom);
                (param - (decay + change), [new_exp_avg, new_exp_avg_sq])
            },
        );
    }
    fn reduction(&self) -> Option<&dyn Reduction> {
        Some(self)
    }
}

impl Reduction for StableAdamW {
    fn sums(&self) -> Vec<&'static str> {
        vec!["ratio_sq", "count"]
    }
    fn terms(&self, elements: Terms<'_>, step: &StepScalars) {
        let (rule, step) = (self.clone(), *step);
        elements.each(
            #[inline(always)]
            move |_, grad, [_, exp_avg_sq]| {
                let divisor = maximum(Self::root(rule.second_moment(grad, exp_avg_sq), &step), rule.eps as f32);
                let ratio = if divisor == 0.0 { 0.0 } else { grad / divisor };
                [ratio * ratio, 1.0]
            },
        );
    }
}
