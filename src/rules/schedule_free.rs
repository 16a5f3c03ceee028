use std::borrow::Cow;

use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Rule, Step, check_beta, common_options, setters};

/// Schedule-free SGD (Defazio et al. 2024, arXiv 2405.15682), as `schedulefree.SGDScheduleFree` 1.4.
///
/// While training, the parameters are the sequence y: with `c = weightₜ/Σweight`, `weightₜ = tʳ·lr_maxᵖ`,
/// `grad += weight_decay·y`; `y = (1 - c)·y + c·z - lr·(1 - momentum·(1 - c))·grad`; `z -= lr·grad`.
/// [`Optimizer::eval`](crate::Optimizer::eval) turns them into the averages x, to evaluate and to save, and
/// [`Optimizer::train`](crate::Optimizer::train) back, bit by bit. Warm-up is the rule's own; leave the schedule out.
///
/// State: 4 bytes per parameter (`z`), and 4 more for the training parameters from the first `eval` on.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct ScheduleFreeSgd {
    /// Learning rate; default 1.
    pub lr: f64,
    /// Momentum, greater than 0 and less than 1: how far y lies from z on the way to x; default 0.9.
    pub momentum: f64,
    /// L2 weight decay, taken at y; default 0.
    pub weight_decay: f64,
    /// Applied steps in which the learning rate rises linearly to its full value; default 0.
    pub warmup_steps: u64,
    /// Power of t in a step's weight, an integer from 0 to 16; default 0.
    pub r: f64,
    /// Power of the largest learning rate so far in a step's weight, an integer from 0 to 16; default 2.
    pub weight_lr_power: f64,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

/// Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), as `schedulefree.AdamWScheduleFree` 1.4.
///
/// As [`ScheduleFreeSgd`] with `betas.0` as the momentum, and with `grad/(√(exp_avg_sq/(1 - β₂ᵗ)) + eps)` in place of
/// the gradient.
///
/// State: 8 bytes per parameter (`z`, `exp_avg_sq`), and 4 more for the training parameters from the first `eval` on.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct ScheduleFreeAdamW {
    /// Learning rate; default 2.5e-3.
    pub lr: f64,
    /// Momentum, greater than 0, and β of the squared gradient's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// Weight decay, taken at y; default 0.
    pub weight_decay: f64,
    /// Applied steps in which the learning rate rises linearly to its full value; default 0.
    pub warmup_steps: u64,
    /// Power of t in a step's weight, an integer from 0 to 16; default 0.
    pub r: f64,
    /// Power of the largest learning rate so far in a step's weight, an integer from 0 to 16; default 2.
    pub weight_lr_power: f64,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for ScheduleFreeSgd {
    fn default() -> Self {
        let (warmup_steps, r, weight_lr_power) = (0, 0.0, 2.0);
        Self { lr: 1.0, momentum: 0.9, weight_decay: 0.0, warmup_steps, r, weight_lr_power, maximize: false }
    }
}

impl Default for ScheduleFreeAdamW {
    fn default() -> Self {
        let (betas, eps, warmup_steps, r, weight_lr_power) = ((0.9, 0.999), 1e-8, 0, 0.0, 2.0);
        Self { lr: 2.5e-3, betas, eps, weight_decay: 0.0, warmup_steps, r, weight_lr_power, maximize: false }
    }
}

impl ScheduleFreeSgd {
    setters! {
        /// Sets [`ScheduleFreeSgd::momentum`].
        with_momentum(momentum: f64),
    }
}

impl ScheduleFreeAdamW {
    setters! {
        /// Sets [`ScheduleFreeAdamW::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`ScheduleFreeAdamW::eps`].
        with_eps(eps: f64),
    }
}

/// What both rules have in common; `$averaging` makes an [`Averaging`] of one.
macro_rules! schedule_free {
    ($Rule:ident, $name:literal, $gradient:literal, $averaging:expr, { $($own:item)* }) => {
        impl $Rule {
            setters! {
                /// Sets the learning rate.
                with_lr(lr: f64),
                /// Sets the weight decay.
                with_weight_decay(weight_decay: f64),
                /// Sets the steps of warm-up.
                with_warmup_steps(warmup_steps: u64),
                /// Sets the power of t in a step's weight.
                with_r(r: f64),
                /// Sets the power of the largest learning rate in a step's weight.
                with_weight_lr_power(weight_lr_power: f64),
                /// Switches the direction.
                with_maximize(maximize: bool),
            }

            fn averaging(&self) -> Averaging {
                let (r, weight_lr_power) = (self.r as u32, self.weight_lr_power as u32);
                Averaging::new($averaging(self), self.warmup_steps, r, weight_lr_power)
            }

            fn validate_averaging(&self) -> Result<(), Error> {
                let beta = $averaging(self);
                let inside = beta > 0.0 && (beta as f32) < 1.0 && ((1.0 / beta) as f32).is_finite();
                let name = if $name == "schedule_free_sgd" { "momentum" } else { "betas.0" };
                check(inside, $name, name, beta, "greater than 0, less than 1 (in f32)")?;
                for (name, power) in [("r", self.r), ("weight_lr_power", self.weight_lr_power)] {
                    let small = (0.0..=16.0).contains(&power) && power.fract() == 0.0;
                    check(small, $name, name, power, "the integers from 0 to 16")?;
                }
                Ok(())
            }
        }

        impl Rule for $Rule {
            common_options!($name);

            fn constants(&self) -> Vec<(&str, f64)> {
                vec![("r", self.r), ("weight_lr_power", self.weight_lr_power)]
            }
            fn scalars(&self) -> Vec<(&str, f32)> {
                vec![("weight_sum", 0.0), ("lr_max", 0.0), ("average_share", 0.0), ("warmup", 0.0)]
            }
            fn advance(&self, scalars: &mut [f32; 4], lr: f32, _bias_correction: [f32; 4], t: u32) {
                *scalars = self.averaging().advance(*scalars, lr, t);
            }
            fn passes(&self) -> Vec<&'static str> {
                vec!["eval"]
            }
            fn wgsl(&self) -> Cow<'_, str> {
                format!("{}\n{}", include_str!("../../shaders/rules/schedule_free.wgsl"), include_str!($gradient)).into()
            }
            $($own)*
        }
    };
}

schedule_free!(
    ScheduleFreeSgd,
    "schedule_free_sgd",
    "../../shaders/rules/schedule_free/sgd.wgsl",
    |rule: &Self| rule.momentum,
    {
        fn states(&self) -> Vec<&str> {
            vec!["z"]
        }
        fn hyperparameters(&self) -> Vec<(&str, f32)> {
            self.averaging().hyperparameters()
        }
        fn validate(&self) -> Result<(), Error> {
            self.validate_averaging()
        }
        fn update(&self, elements: Elements<'_>, step: &Step) {
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
        /// The one pass there is, `eval`.
        fn update_pass(&self, _pass: &str, elements: Elements<'_>, step: &Step) {
            let (averaging, step) = (self.averaging(), *step);
            elements.each(
                #[inline(always)]
                move |param, _, [z]| (averaging.eval(param, z, &step), [z]),
            );
        }
    }
);

schedule_free!(
    ScheduleFreeAdamW,
    "schedule_free_adamw",
    "../../shaders/rules/schedule_free/adamw.wgsl",
    |rule: &Self| rule.betas.0,
    {
        fn states(&self) -> Vec<&str> {
            vec!["z", "exp_avg_sq"]
        }
        fn hyperparameters(&self) -> Vec<(&str, f32)> {
            let mut hyperparameters = self.averaging().hyperparameters();
            let beta2 = self.betas.1;
            hyperparameters.extend([
                ("beta2", beta2 as f32),
                ("one_minus_beta2", (1.0 - beta2) as f32),
                ("eps", self.eps as f32),
            ]);
            hyperparameters
        }
        fn bias_corrected(&self) -> Vec<f64> {
            vec![self.betas.1]
        }
        fn validate(&self) -> Result<(), Error> {
            self.validate_averaging()?;
            check_beta(self.name(), "betas.1", self.betas.1)?;
            let eps = self.eps;
            check(eps >= 0.0 && (eps as f32).is_finite(), self.name(), "eps", eps, "0 or greater, finite")
        }
        fn update(&self, elements: Elements<'_>, step: &Step) {
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
        /// The one pass there is, `eval`.
        fn update_pass(&self, _pass: &str, elements: Elements<'_>, step: &Step) {
            let (averaging, step) = (self.averaging(), *step);
            elements.each(
                #[inline(always)]
                move |param, _, [z, exp_avg_sq]| (averaging.eval(param, z, &step), [z, exp_avg_sq]),
            );
        }
    }
);

/// Twin of `shaders/rules/schedule_free.wgsl`, without what is done to the gradient.
struct Averaging {
    beta: f32,
    one_minus_beta: f32,
    eval_share: f32,
    inverse_warmup_steps: f32,
    r: u32,
    weight_lr_power: u32,
}

impl Averaging {
    fn new(beta: f64, warmup_steps: u64, r: u32, weight_lr_power: u32) -> Self {
        Self {
            beta: beta as f32,
            one_minus_beta: (1.0 - beta) as f32,
            eval_share: ((1.0 - beta) / beta) as f32,
            inverse_warmup_steps: (1.0 / warmup_steps.max(1) as f64) as f32,
            r,
            weight_lr_power,
        }
    }

    fn hyperparameters(&self) -> Vec<(&'static str, f32)> {
        vec![
            ("beta", self.beta),
            ("one_minus_beta", self.one_minus_beta),
            ("eval_share", self.eval_share),
            ("inverse_warmup_steps", self.inverse_warmup_steps),
        ]
    }

    fn advance(&self, scalars: [f32; 4], lr: f32, t: u32) -> [f32; 4] {
        let [weight_sum, lr_max, average_share, _] = scalars;
        let warmup = (t as f32 * self.inverse_warmup_steps).min(1.0);
        let new_lr_max = lr_max.max(lr * warmup);
        if new_lr_max == 0.0 && self.weight_lr_power > 0 {
            return [weight_sum, new_lr_max, average_share, warmup];
        }
        let mut before = weight_sum;
        for _ in 0..self.r {
            before *= (t - 1) as f32 / t as f32;
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
    fn update(&self, param: f32, z: f32, step: &Step, gradient: impl FnOnce() -> f32) -> (f32, f32) {
        let [_, _, average_share, warmup] = step.scalars;
        let z = if step.t == 1 { param } else { z };
        let lr = step.lr * warmup;
        let decayed = gradient() + step.weight_decay * param;
        let grad_share = self.one_minus_beta + self.beta * average_share;
        let new_param = param + average_share * (z - param) - (lr * grad_share) * decayed;
        (new_param, z - lr * decayed)
    }

    #[inline(always)]
    fn eval(&self, param: f32, z: f32, step: &Step) -> f32 {
        if step.t > 0 { param - self.eval_share * (z - param) } else { param }
    }
}
