use std::borrow::Cow;

use crate::Error;
use crate::error::check;
use crate::rule::{Elements, MeasuredElements, Rule, Step, average, check_beta, common_options, setters};

/// NovoGrad (Ginsburg et al. 2019, arXiv 1905.11286): momentum on gradients that are divided by a running average of their
/// tensor's norm.
///
/// `exp_avg_sq = ‖grad‖²` at the first step, later `β₂·exp_avg_sq + (1 - β₂)·‖grad‖²`, one number per tensor;
/// `exp_avg = β₁·exp_avg + (grad/(√exp_avg_sq + eps) + weight_decay·param)`; `param -= lr·exp_avg`.
///
/// Defaults are those of `torch_optimizer.NovoGrad`, after NVIDIA's; [`NovoGrad::optax`] has optax's.
///
/// `torch_optimizer` begins `exp_avg_sq` with a tensor's first gradient that is not zero; here, as in optax, it is the one
/// of step 1.
///
/// State: 4 bytes per parameter (`exp_avg`), and `exp_avg_sq` of each tensor
/// ([`Optimizer::tensor_states`](crate::Optimizer::tensor_states)). A step is 5 dispatches: the gradient's norm, the
/// decision, the tensors' sums, their adding up, the update (per chunk: the first, third and fifth).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct NovoGrad {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// β of the momentum and of the squared norm's running average; default (0.95, 0).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// Weight decay, added to the divided gradient; default 0.
    pub weight_decay: f64,
    /// Whether the momentum takes `1 - β₁` of what is added to it; default false.
    pub grad_averaging: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for NovoGrad {
    fn default() -> Self {
        Self::torch()
    }
}

impl NovoGrad {
    /// The defaults of `torch_optimizer.NovoGrad`.
    pub fn torch() -> Self {
        let (betas, eps) = ((0.95, 0.0), 1e-8);
        Self { lr: 1e-3, betas, eps, weight_decay: 0.0, grad_averaging: false, maximize: false }
    }

    /// The defaults of `optax.novograd`: betas (0.9, 0.25), eps 1e-6. (optax has no default lr; here it is 1e-3.)
    pub fn optax() -> Self {
        Self { betas: (0.9, 0.25), eps: 1e-6, ..Self::torch() }
    }

    setters! {
        /// Sets [`NovoGrad::lr`].
        with_lr(lr: f64),
        /// Sets [`NovoGrad::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`NovoGrad::eps`].
        with_eps(eps: f64),
        /// Sets [`NovoGrad::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`NovoGrad::grad_averaging`].
        with_grad_averaging(grad_averaging: bool),
        /// Sets [`NovoGrad::maximize`].
        with_maximize(maximize: bool),
    }

    /// The gradient's share in the momentum.
    fn share(&self) -> f32 {
        if self.grad_averaging { (1.0 - self.betas.0) as f32 } else { 1.0 }
    }
}

impl Rule for NovoGrad {
    common_options!("novograd");

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        vec![
            ("beta1", self.betas.0 as f32),
            ("beta2", self.betas.1 as f32),
            ("one_minus_beta2", (1.0 - self.betas.1) as f32),
            ("eps", self.eps as f32),
            ("share", self.share()),
        ]
    }
    fn measures(&self) -> Vec<&str> {
        vec!["grad_sq"]
    }
    fn tensor_states(&self) -> Vec<(&str, f32)> {
        vec![("exp_avg_sq", 0.0)]
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)?;
        check(self.eps >= 0.0 && (self.eps as f32).is_finite(), self.name(), "eps", self.eps, "0 or greater, finite")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        concat!(include_str!("../../shaders/rules/novograd.wgsl"), include_str!("../../shaders/rule/average.wgsl"))
            .into()
    }
    fn measure(&self, elements: MeasuredElements<'_>, _: &Step) {
        elements.each(
            #[inline(always)]
            move |_, grad, [_]| [grad * grad],
        );
    }
    fn settle(&self, state: &mut [f32; 4], measured: [f32; 4], _: f32, _: [f32; 4], t: u32) {
        let [exp_avg_sq, ..] = state;
        let (beta2, one_minus_beta2) = (self.betas.1 as f32, (1.0 - self.betas.1) as f32);
        let averaged = average(*exp_avg_sq, measured[0], beta2, one_minus_beta2);
        *exp_avg_sq = if t == 1 { measured[0] } else { averaged };
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let step = *step;
        let (beta1, eps, share) = (self.betas.0 as f32, self.eps as f32, self.share());
        let denom = step.tensor[0].sqrt() + eps;
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg]| {
                let normalized = grad / denom + step.weight_decay * param;
                let new_exp_avg = beta1 * exp_avg + share * normalized;
                let new_param = param - step.lr * new_exp_avg;
                (new_param, [new_exp_avg])
            },
        );
    }
}
