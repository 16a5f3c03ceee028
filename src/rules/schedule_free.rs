use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::error::check;
use crate::rule::{AuxiliaryUpdates, Elements, Rule, RuleSpec, ScalarState, StateSpec, StepScalars, check_beta};

rule! {
    /// Schedule-free SGD (Defazio et al. 2024, arXiv 2405.15682), as `schedulefree.SGDScheduleFree` 1.4.
    ///
    /// The training parameters are the sequence y. With `c = weightₜ/Σweight` and `weightₜ = tʳ·lr_maxᵖ`:
    /// `grad += weight_decay·y`; `y = (1 - c)·y + c·z - lr·(1 - momentum·(1 - c))·grad`; `z -= lr·grad`.
    ///
    /// [`Optimizer::eval`](crate::Optimizer::eval) replaces y by the averages x, for evaluation and saving.
    /// [`Optimizer::train`](crate::Optimizer::train) restores y bit for bit. Set `warmup_steps` instead of a schedule.
    ///
    /// State: 4 bytes per parameter (`z`), and from the first `eval` 4 more (the training parameters).
    ScheduleFreeSgd = "schedule_free_sgd" from "schedulefree" {
        /// Learning rate; default 1.
        lr: f64 = 1.0, with_lr;
        /// Momentum, greater than 0 and less than 1: `y = momentum·x + (1 - momentum)·z`; default 0.9.
        momentum: f64 = 0.9, with_momentum;
        /// L2 weight decay of y; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Applied steps of a linear warm-up of the learning rate; default 0.
        warmup_steps: u64 = 0, with_warmup_steps;
        /// Power of t in the weight of a step, an integer from 0 to 16; default 0.
        r: f64 = 0.0, with_r;
        /// Power of the maximum learning rate so far in the weight of a step, an integer from 0 to 16; default 2.
        weight_lr_power: f64 = 2.0, with_weight_lr_power;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants {}
}

rule! {
    /// Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), as `schedulefree.AdamWScheduleFree` 1.4.
    ///
    /// As [`ScheduleFreeSgd`] with `betas.0` as the momentum, and with `grad/(√(exp_avg_sq/(1 - β₂ᵗ)) + eps)` in place
    /// of the gradient.
    ///
    /// State: 8 bytes per parameter (`z`, `exp_avg_sq`), and from the first `eval` 4 more (the training parameters).
    ScheduleFreeAdamW = "schedule_free_adamw" from "schedulefree" {
        /// Learning rate; default 2.5e-3.
        lr: f64 = 2.5e-3, with_lr;
        /// Momentum, greater than 0, and β of the running average of the squared gradient; default (0.9, 0.999).
        betas: (f64, f64) = (0.9, 0.999), with_betas;
        /// Added to the denominator; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Weight decay of y; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Applied steps of a linear warm-up of the learning rate; default 0.
        warmup_steps: u64 = 0, with_warmup_steps;
        /// Power of t in the weight of a step, an integer from 0 to 16; default 0.
        r: f64 = 0.0, with_r;
        /// Power of the maximum learning rate so far in the weight of a step, an integer from 0 to 16; default 2.
        weight_lr_power: f64 = 2.0, with_weight_lr_power;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants { Self::default().with_r(1.0) }
}

impl ScheduleFreeSgd {
    fn averaging(&self) -> Averaging {
        Averaging::new(self.momentum, self.warmup_steps, self.r, self.weight_lr_power)
    }
}

impl ScheduleFreeAdamW {
    fn averaging(&self) -> Averaging {
        Averaging::new(self.betas.0, self.warmup_steps, self.r, self.weight_lr_power)
    }
}

impl Rule for ScheduleFreeSgd {
    fn spec(&self) -> RuleSpec {
        self.averaging().add_to(common_spec!(self), None)
    }
    fn validate(&self) -> Result<(), Error> {
        Averaging::validate("schedule_free_sgd", "momentum", self.momentum, self.r, self.weight_lr_power)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/schedule_free.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let averaging = self.averaging();
        elements.each(
            #[inline(always)]
            move |param, grad, [z]| {
                let (new_param, new_z) = averaging.update(param, z, &step, || grad);
                (new_param, [new_z])
            },
        );
    }
    fn scalar_state(&self) -> Option<&dyn ScalarState> {
        Some(self)
    }
    fn auxiliary_updates(&self) -> Option<&dyn AuxiliaryUpdates> {
        Some(self)
    }
}

impl Rule for ScheduleFreeAdamW {
    fn spec(&self) -> RuleSpec {
        self.averaging().add_to(common_spec!(self), Some((self.betas.1, self.eps)))
    }
    fn validate(&self) -> Result<(), Error> {
        let owner = "schedule_free_adamw";
        Averaging::validate(owner, "betas.0", self.betas.0, self.r, self.weight_lr_power)?;
        check_beta(owner, "betas.1", self.betas.1)?;
        let eps = self.eps;
        check(eps >= 0.0 && (eps as f32).is_finite(), owner, "eps", eps, "0 or greater, finite")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/schedule_free.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let (averaging, step) = (self.averaging(), *step);
        let (beta2, one_minus_beta2) = (self.betas.1 as f32, (1.0 - self.betas.1) as f32);
        let eps = self.eps as f32;
        elements.each(
            #[inline(always)]
            move |param, grad, [z, exp_avg_sq]| {
                let new_exp_avg_sq = beta2 * exp_avg_sq + one_minus_beta2 * (grad * grad);
                let (new_param, new_z) = averaging
                    .update(param, z, &step, || grad / ((new_exp_avg_sq / step.bias_correction[0]).sqrt() + eps));
                (new_param, [new_z, new_exp_avg_sq])
            },
        );
    }
    fn scalar_state(&self) -> Option<&dyn ScalarState> {
        Some(self)
    }
    fn auxiliary_updates(&self) -> Option<&dyn AuxiliaryUpdates> {
        Some(self)
    }
}

/// Scalar state and `eval` of a rule. Here, the two rules differ only in the number of states.
macro_rules! averaging {
    ($Rule:ident, [$($state:ident),*]) => {
        impl ScalarState for $Rule {
            fn initial_scalars(&self) -> Vec<(&'static str, f32)> {
                vec![("weight_sum", 0.0), ("lr_max", 0.0), ("average_share", 0.0), ("warmup", 0.0)]
            }
            fn update_scalars(&self, scalars: &mut [f32; 4], lr: f32, _bias_correction: [f32; 4], t: u32) {
                *scalars = self.averaging().update_scalars(*scalars, lr, t);
            }
        }

        impl AuxiliaryUpdates for $Rule {
            fn auxiliary_names(&self) -> &'static [&'static str] {
                &["eval"]
            }
            fn auxiliary_update(&self, _name: &str, elements: Elements<'_>, step: &StepScalars) {
                let (averaging, step) = (self.averaging(), *step);
                elements.each(
                    #[inline(always)]
                    move |param, _, [z, $($state),*]| (averaging.eval(param, z, &step), [z, $($state),*]),
                );
            }
        }
    };
}

averaging!(ScheduleFreeSgd, []);
averaging!(ScheduleFreeAdamW, [exp_avg_sq]);

/// The updates of x, y and z that both rules share, without the gradient.
struct Averaging {
    beta: f32,
    one_minus_beta: f32,
    eval_share: f32,
    inverse_warmup_steps: f32,
    r: u32,
    weight_lr_power: u32,
}

impl Averaging {
    fn new(beta: f64, warmup_steps: u64, r: f64, weight_lr_power: f64) -> Self {
        Self {
            beta: beta as f32,
            one_minus_beta: (1.0 - beta) as f32,
            eval_share: ((1.0 - beta) / beta) as f32,
            inverse_warmup_steps: (1.0 / warmup_steps.max(1) as f64) as f32,
            r: r as u32,
            weight_lr_power: weight_lr_power as u32,
        }
    }

    /// Returns an error for options out of range. `name` is the option that `beta` comes from.
    fn validate(owner: &str, name: &'static str, beta: f64, r: f64, weight_lr_power: f64) -> Result<(), Error> {
        let inside = beta > 0.0 && (beta as f32) < 1.0 && ((1.0 / beta) as f32).is_finite();
        check(inside, owner, name, beta, "greater than 0, less than 1 (in f32)")?;
        for (name, power) in [("r", r), ("weight_lr_power", weight_lr_power)] {
            let small = (0.0..=16.0).contains(&power) && power.fract() == 0.0;
            check(small, owner, name, power, "the integers from 0 to 16")?;
        }
        Ok(())
    }

    /// Adds states, hyperparameters and constants to a spec; `second_moment` is β₂ and eps of AdamW.
    fn add_to(&self, spec: RuleSpec, second_moment: Option<(f64, f64)>) -> RuleSpec {
        let (beta2, eps) = second_moment.unwrap_or_default();
        spec.with_states([StateSpec::new("z").as_param(), StateSpec::second_moment("exp_avg_sq").only_if(second_moment.is_some())])
            .with_hyperparameters([
                ("beta", self.beta),
                ("one_minus_beta", self.one_minus_beta),
                ("eval_share", self.eval_share),
                ("inverse_warmup_steps", self.inverse_warmup_steps),
                ("beta2", beta2 as f32),
                ("one_minus_beta2", (1.0 - beta2) as f32),
                ("eps", eps as f32),
            ])
            .with_constants([
                ("r", self.r),
                ("weight_lr_power", self.weight_lr_power),
                ("normalized", u32::from(second_moment.is_some())),
            ])
            .with_bias_corrected(second_moment.map(|(beta2, _)| beta2))
    }

    fn update_scalars(&self, scalars: [f32; 4], lr: f32, t: u32) -> [f32; 4] {
        let [weight_sum, lr_max, average_share, _] = scalars;
        let warmup = (t as f32 * self.inverse_warmup_steps).min(1.0);
        let new_lr_max = lr_max.max(lr * warmup);
        if new_lr_max == 0.0 && self.weight_lr_power > 0 {
            return [weight_sum, new_lr_max, average_share, warmup];
        }
        let mut before = weight_sum;
        for _ in 0..self.r {
            before *= t.wrapping_sub(1) as f32 / t as f32;
        }
        if new_lr_max > lr_max {
            for _ in 0..self.weight_lr_power {
                before *= lr_max / new_lr_max;
            }
        }
        let new_weight_sum = before + 1.0;
        [new_weight_sum, new_lr_max, 1.0 / new_weight_sum, warmup]
    }

    #[inline(always)]
    fn update(&self, param: f32, z: f32, step: &StepScalars, gradient: impl FnOnce() -> f32) -> (f32, f32) {
        let [_, _, average_share, warmup] = step.scalar_state;
        let z = if step.is_first { param } else { z };
        let lr = step.lr * warmup;
        let decayed = gradient() + step.weight_decay * param;
        let grad_share = self.one_minus_beta + self.beta * average_share;
        let new_param = param + average_share * (z - param) - (lr * grad_share) * decayed;
        (new_param, z - lr * decayed)
    }

    #[inline(always)]
    fn eval(&self, param: f32, z: f32, step: &StepScalars) -> f32 {
        if step.is_first { param } else { param - self.eval_share * (z - param) }
    }
}
