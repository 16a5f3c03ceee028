use std::borrow::Cow;

use super::declare::{common_spec, cycles_momentum, rule};
use crate::Error;
use crate::rule::{Elements, Metric, Rule, RuleSpec, StateSpec, StepScalars, Terms, check_beta, same_sign, sign_of};

rule! {
    /// Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2).
    ///
    /// `param *= 1 - lr·weight_decay`; `param -= lr·sign(β₁·exp_avg + (1 - β₁)·grad)` with sign(0) = 0;
    /// `exp_avg = β₂·exp_avg + (1 - β₂)·grad`.
    ///
    /// State: 4 bytes per parameter (`exp_avg`). Metric ([`Stats::rule_metric`](crate::Stats::rule_metric)): the sign
    /// agreement, the share of elements whose update has the sign of the gradient.
    Lion = "lion" from "lion-pytorch" {
        /// Learning rate; default 1e-4.
        lr: f64 = 1e-4, with_lr;
        /// β of the interpolation inside the sign and of the running average; default (0.9, 0.99).
        betas: (f64, f64) = (0.9, 0.99), with_betas;
        /// Decoupled weight decay; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Skip the update of elements where update and gradient differ in sign, as
        /// [`AdamW::cautious`](crate::AdamW::cautious); default false.
        cautious: bool = false, with_cautious;
        /// Skip the decay of elements that the update, before any mask, moves away from 0, as
        /// [`AdamW::cautious_weight_decay`](crate::AdamW::cautious_weight_decay); default false.
        cautious_weight_decay: bool = false, with_cautious_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets { optax: "weight decay 1e-3" }
    variants { Self::default().with_cautious(true).with_cautious_weight_decay(true) }
}

impl Lion {
    /// `optax.lion`: weight decay 1e-3. optax has no default learning rate; this keeps the default.
    pub fn optax() -> Self {
        Self { weight_decay: 1e-3, ..Self::default() }
    }
}

impl Rule for Lion {
    cycles_momentum!(betas.0);

    fn spec(&self) -> RuleSpec {
        common_spec!(self)
            .with_states([StateSpec::first_moment("exp_avg")])
            .with_hyperparameters([
                ("beta1", self.betas.0 as f32),
                ("one_minus_beta1", (1.0 - self.betas.0) as f32),
                ("beta2", self.betas.1 as f32),
                ("one_minus_beta2", (1.0 - self.betas.1) as f32),
            ])
            .with_flags([("cautious", self.cautious), ("cautious_weight_decay", self.cautious_weight_decay)])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("lion", "betas.0", self.betas.0)?;
        check_beta("lion", "betas.1", self.betas.1)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/lion.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let (beta1, one_minus_beta1) = (self.betas.0 as f32, (1.0 - self.betas.0) as f32);
        let (beta2, one_minus_beta2) = (self.betas.1 as f32, (1.0 - self.betas.1) as f32);
        let (cautious, cautious_weight_decay) = (self.cautious, self.cautious_weight_decay);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg]| {
                let interpolated = beta1 * exp_avg + one_minus_beta1 * grad;
                let mut direction = sign_of(interpolated);
                if cautious {
                    direction *= f32::from(u8::from(same_sign(interpolated, grad)));
                }
                let mut decay = step.lr * step.weight_decay;
                if cautious_weight_decay && same_sign(-interpolated, param) {
                    decay = 0.0;
                }
                let mut new_param = param - decay * param;
                new_param -= step.lr * direction;
                let new_exp_avg = beta2 * exp_avg + one_minus_beta2 * grad;
                (new_param, [new_exp_avg])
            },
        );
    }
    fn metric(&self) -> Option<&dyn Metric> {
        Some(self)
    }
}

impl Metric for Lion {
    fn metric(&self, elements: Terms<'_>, _step: &StepScalars) {
        let (beta1, one_minus_beta1) = (self.betas.0 as f32, (1.0 - self.betas.0) as f32);
        elements.each(
            #[inline(always)]
            move |_, grad, [exp_avg]| {
                let interpolated = beta1 * exp_avg + one_minus_beta1 * grad;
                [if same_sign(interpolated, grad) { 1.0 } else { 0.0 }]
            },
        );
    }
}
