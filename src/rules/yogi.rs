use std::borrow::Cow;

use crate::Error;
use crate::rule::{Elements, Rule, Step, average, check_beta, check_rate, common_options, setters, sign_of};

/// Yogi (Zaheer et al. 2018, "Adaptive Methods for Nonconvex Optimization", `NeurIPS`), as `optax.yogi`: Adam whose
/// second moment moves by a share of grad², however far away it is.
///
/// `exp_avg_sq -= (1 - β₂)·sign(exp_avg_sq - grad²)·grad²`;
/// `param -= lr/(1 - β₁ᵗ) · exp_avg / (√(exp_avg_sq/(1 - β₂ᵗ)) + eps)`. As in optax both averages start at
/// `initial_accumulator_value`.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Yogi {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// β of the gradient's running average and of the squared gradient's; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-3.
    pub eps: f64,
    /// What both states hold before the first step; default 1e-6.
    pub initial_accumulator_value: f64,
    /// Decoupled weight decay, as `optax.add_decayed_weights` before the learning rate; default 0.
    pub weight_decay: f64,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Yogi {
    fn default() -> Self {
        let initial_accumulator_value = 1e-6;
        Self { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-3, initial_accumulator_value, weight_decay: 0.0, maximize: false }
    }
}

impl Yogi {
    setters! {
        /// Sets [`Yogi::lr`].
        with_lr(lr: f64),
        /// Sets [`Yogi::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`Yogi::eps`].
        with_eps(eps: f64),
        /// Sets [`Yogi::initial_accumulator_value`].
        with_initial_accumulator_value(initial_accumulator_value: f64),
        /// Sets [`Yogi::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Yogi::maximize`].
        with_maximize(maximize: bool),
    }

    /// beta1, 1 - beta1, 1 - beta2, eps.
    fn rounded(&self) -> [f32; 4] {
        let (beta1, beta2) = self.betas;
        [beta1, 1.0 - beta1, 1.0 - beta2, self.eps].map(|value| value as f32)
    }
}

impl Rule for Yogi {
    common_options!("yogi");

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg", "exp_avg_sq"]
    }
    fn initial_state(&self, _state: &str) -> f32 {
        self.initial_accumulator_value as f32
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        ["beta1", "one_minus_beta1", "one_minus_beta2", "eps"].into_iter().zip(self.rounded()).collect()
    }
    fn bias_corrected(&self) -> Vec<f64> {
        vec![self.betas.0, self.betas.1]
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)?;
        check_rate(self.name(), "initial_accumulator_value", self.initial_accumulator_value)?;
        check_rate(self.name(), "eps", self.eps)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        concat!(
            include_str!("../../shaders/rules/yogi.wgsl"),
            include_str!("../../shaders/rule/average.wgsl"),
            include_str!("../../shaders/rule/sign.wgsl")
        )
        .into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let step = *step;
        let [beta1, one_minus_beta1, one_minus_beta2, eps] = self.rounded();
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_sq]| {
                let new_exp_avg = average(exp_avg, grad, beta1, one_minus_beta1);
                let grad_sq = grad * grad;
                let new_exp_avg_sq = exp_avg_sq - one_minus_beta2 * (sign_of(exp_avg_sq - grad_sq) * grad_sq);
                let step_size = step.lr / step.bias_correction[0];
                let denom = (new_exp_avg_sq / step.bias_correction[1]).sqrt() + eps;
                let decay = (step.lr * step.weight_decay) * param;
                let new_param = param - (decay + step_size * (new_exp_avg / denom));
                (new_param, [new_exp_avg, new_exp_avg_sq])
            },
        );
    }
}
