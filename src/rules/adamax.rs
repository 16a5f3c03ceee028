use std::borrow::Cow;

use crate::Error;
use crate::rule::{Elements, Rule, Step, check_beta, check_rate, common_options, cycles, maximum, setters};

/// Adamax (Kingma & Ba 2015, arXiv 1412.6980, section 7.1), as `torch.optim.Adamax`.
///
/// `grad += weight_decay·param`, or decoupled `param *= 1 - lr·weight_decay`; `exp_avg = β₁·exp_avg + (1 - β₁)·grad`;
/// `exp_inf = max(β₂·exp_inf, |grad| + eps)`; `param -= lr/(1 - β₁ᵗ) · exp_avg/exp_inf`.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_inf`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Adamax {
    /// Learning rate; default 2e-3.
    pub lr: f64,
    /// β of the gradient's running average and of the decay of its largest absolute value; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the gradient's absolute value; default 1e-8.
    pub eps: f64,
    /// Weight decay; default 0.
    pub weight_decay: f64,
    /// Whether weight decay scales the parameter as in `AdamW`, or else is added to the gradient; default false.
    pub decoupled_weight_decay: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Adamax {
    fn default() -> Self {
        let (betas, eps) = ((0.9, 0.999), 1e-8);
        Self { lr: 2e-3, betas, eps, weight_decay: 0.0, decoupled_weight_decay: false, maximize: false }
    }
}

impl Adamax {
    /// `torch.optim.Adamax`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adamax`, and with weight decay `optax.adamaxw`, which decouples it. optax has no default learning rate; this
    /// keeps PyTorch's.
    pub fn optax() -> Self {
        Self { decoupled_weight_decay: true, ..Self::default() }
    }

    setters! {
        /// Sets [`Adamax::lr`].
        with_lr(lr: f64),
        /// Sets [`Adamax::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`Adamax::eps`].
        with_eps(eps: f64),
        /// Sets [`Adamax::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Adamax::decoupled_weight_decay`].
        with_decoupled_weight_decay(decoupled_weight_decay: bool),
        /// Sets [`Adamax::maximize`].
        with_maximize(maximize: bool),
    }
}

impl Rule for Adamax {
    common_options!("adamax");
    cycles!(betas.0);

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg", "exp_inf"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        vec![
            ("beta1", self.betas.0 as f32),
            ("one_minus_beta1", (1.0 - self.betas.0) as f32),
            ("beta2", self.betas.1 as f32),
            ("eps", self.eps as f32),
        ]
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        vec![("decoupled_weight_decay", f64::from(u8::from(self.decoupled_weight_decay)))]
    }
    fn bias_corrected(&self) -> Vec<f64> {
        vec![self.betas.0]
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)?;
        check_rate(self.name(), "eps", self.eps)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        concat!(include_str!("../../shaders/rules/adamax.wgsl"), include_str!("../../shaders/rule/maximum.wgsl")).into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let (rule, step) = (self.clone(), *step);
        let (beta1, one_minus_beta1) = (rule.betas.0 as f32, (1.0 - rule.betas.0) as f32);
        let (beta2, eps) = (rule.betas.1 as f32, rule.eps as f32);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_inf]| {
                let mut decay = 0.0;
                let mut decayed = grad;
                if rule.decoupled_weight_decay {
                    decay = (step.lr * step.weight_decay) * param;
                } else {
                    decayed = grad + step.weight_decay * param;
                }
                let new_exp_avg = beta1 * exp_avg + one_minus_beta1 * decayed;
                let new_exp_inf = maximum(beta2 * exp_inf, decayed.abs() + eps);
                let step_size = step.lr / step.bias_correction[0];
                let new_param = param - (decay + step_size * (new_exp_avg / new_exp_inf));
                (new_param, [new_exp_avg, new_exp_inf])
            },
        );
    }
}
