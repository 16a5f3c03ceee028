use std::borrow::Cow;

use crate::Error;
use crate::rule::{
    Elements, MeasuredElements, Rule, Step, agree, check_beta, common_options, cycles, setters, sign_of,
};

/// Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2).
///
/// `param *= 1 - lr·weight_decay`; `param -= lr·sign(β₁·exp_avg + (1 - β₁)·grad)` with sign(0) = 0;
/// `exp_avg = β₂·exp_avg + (1 - β₂)·grad`.
///
/// State: 4 bytes per parameter (`exp_avg`). Histories keep the sign agreement, the share of elements whose update has the
/// sign of the gradient's own step: [`Stats::rule_fraction`](crate::Stats).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Lion {
    /// Learning rate; default 1e-4.
    pub lr: f64,
    /// β of the sign's interpolation and of the running average; default (0.9, 0.99).
    pub betas: (f64, f64),
    /// Decoupled weight decay; default 0.
    pub weight_decay: f64,
    /// Leave parameters whose update and gradient have not the same sign where they are; as [`AdamW::cautious`]. Default
    /// false.
    ///
    /// [`AdamW::cautious`]: crate::AdamW::cautious
    pub cautious: bool,
    /// Decay no parameter that the update, before any mask, moves away from 0, as [`AdamW::cautious_weight_decay`];
    /// default false.
    ///
    /// [`AdamW::cautious_weight_decay`]: crate::AdamW::cautious_weight_decay
    pub cautious_weight_decay: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Lion {
    fn default() -> Self {
        Self {
            lr: 1e-4,
            betas: (0.9, 0.99),
            weight_decay: 0.0,
            cautious: false,
            cautious_weight_decay: false,
            maximize: false,
        }
    }
}

impl Lion {
    /// `optax.lion`: weight decay 1e-3. optax has no default learning rate; this keeps the default.
    pub fn optax() -> Self {
        Self { weight_decay: 1e-3, ..Self::default() }
    }

    setters! {
        /// Sets [`Lion::lr`].
        with_lr(lr: f64),
        /// Sets [`Lion::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`Lion::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Lion::cautious`].
        with_cautious(cautious: bool),
        /// Sets [`Lion::cautious_weight_decay`].
        with_cautious_weight_decay(cautious_weight_decay: bool),
        /// Sets [`Lion::maximize`].
        with_maximize(maximize: bool),
    }
}

impl Rule for Lion {
    common_options!("lion");
    cycles!(betas.0);

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        vec![
            ("beta1", self.betas.0 as f32),
            ("one_minus_beta1", (1.0 - self.betas.0) as f32),
            ("beta2", self.betas.1 as f32),
            ("one_minus_beta2", (1.0 - self.betas.1) as f32),
        ]
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        let flag = |flag| f64::from(u8::from(flag));
        vec![("cautious", flag(self.cautious)), ("cautious_weight_decay", flag(self.cautious_weight_decay))]
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        concat!(
            include_str!("../../shaders/rules/lion.wgsl"),
            include_str!("../../shaders/rule/sign.wgsl"),
            include_str!("../../shaders/rule/agree.wgsl")
        )
        .into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
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
                    direction *= f32::from(u8::from(agree(interpolated, grad)));
                }
                let mut decay = step.lr * step.weight_decay;
                if cautious_weight_decay && agree(-interpolated, param) {
                    decay = 0.0;
                }
                let mut new_param = param - decay * param;
                new_param -= step.lr * direction;
                let new_exp_avg = beta2 * exp_avg + one_minus_beta2 * grad;
                (new_param, [new_exp_avg])
            },
        );
    }
    fn counts(&self) -> bool {
        true
    }
    fn count(&self, elements: MeasuredElements<'_>, _step: &Step) {
        let (beta1, one_minus_beta1) = (self.betas.0 as f32, (1.0 - self.betas.0) as f32);
        elements.each(
            #[inline(always)]
            move |_, grad, [exp_avg]| {
                let interpolated = beta1 * exp_avg + one_minus_beta1 * grad;
                [if agree(interpolated, grad) { 1.0 } else { 0.0 }]
            },
        );
    }
}
