use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Reduction, Rule, RuleSpec, StateSpec, StepScalars, TensorState, Terms, check_beta, lerp};

rule! {
    /// NovoGrad (Ginsburg et al. 2019, arXiv 1905.11286): momentum on gradients divided by a running average of their
    /// tensor's norm.
    ///
    /// `exp_avg_sq = ‖grad‖²` at the first step, later `β₂·exp_avg_sq + (1 - β₂)·‖grad‖²`, one number per tensor;
    /// `exp_avg = β₁·exp_avg + (grad/(√exp_avg_sq + eps) + weight_decay·param)`; `param -= lr·exp_avg`.
    ///
    /// Defaults are those of `torch_optimizer.NovoGrad`, after NVIDIA's. `torch_optimizer` starts `exp_avg_sq` at a
    /// tensor's first gradient that is not zero. This rule starts it at step 1, as optax does.
    ///
    /// State: 4 bytes per parameter (`exp_avg`), and `exp_avg_sq` of each tensor
    /// ([`Optimizer::tensor_states`](crate::Optimizer::tensor_states)). Dispatches: five, three of them per chunk.
    NovoGrad = "novograd" from "torch-optimizer" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// β of the momentum and of the running average of the squared norm; default (0.95, 0).
        betas: (f64, f64) = (0.95, 0.0), with_betas;
        /// Added to the denominator; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Weight decay, added to the divided gradient; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Multiply the summand of the momentum by `1 - β₁`; default false.
        grad_averaging: bool = false, with_grad_averaging;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets { optax: "betas (0.9, 0.25), eps 1e-6" }
    variants {}
}

impl NovoGrad {
    /// `torch_optimizer.NovoGrad`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.novograd`: betas (0.9, 0.25), eps 1e-6. optax has no default learning rate; this keeps 1e-3.
    pub fn optax() -> Self {
        Self { betas: (0.9, 0.25), eps: 1e-6, ..Self::default() }
    }

    /// The factor of the momentum's summand.
    fn share(&self) -> f32 {
        if self.grad_averaging { (1.0 - self.betas.0) as f32 } else { 1.0 }
    }
}

impl Rule for NovoGrad {
    fn spec(&self) -> RuleSpec {
        common_spec!(self).with_states([StateSpec::first_moment("exp_avg")]).with_hyperparameters([
            ("beta1", self.betas.0 as f32),
            ("beta2", self.betas.1 as f32),
            ("one_minus_beta2", (1.0 - self.betas.1) as f32),
            ("eps", self.eps as f32),
            ("share", self.share()),
        ])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("novograd", "betas.0", self.betas.0)?;
        check_beta("novograd", "betas.1", self.betas.1)?;
        check(self.eps >= 0.0 && (self.eps as f32).is_finite(), "novograd", "eps", self.eps, "0 or greater, finite")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/novograd.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let (beta1, eps, share) = (self.betas.0 as f32, self.eps as f32, self.share());
        let denom = step.tensor_state[0].sqrt() + eps;
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
    fn reduction(&self) -> Option<&dyn Reduction> {
        Some(self)
    }
}

impl Reduction for NovoGrad {
    fn sums(&self) -> Vec<&'static str> {
        vec!["grad_sq"]
    }
    fn terms(&self, elements: Terms<'_>, _: &StepScalars) {
        elements.each(
            #[inline(always)]
            move |_, grad, [_]| [grad * grad],
        );
    }
    fn tensor_state(&self) -> Option<&dyn TensorState> {
        Some(self)
    }
}

impl TensorState for NovoGrad {
    fn initial_tensor_state(&self) -> Vec<(&'static str, f32)> {
        vec![("exp_avg_sq", 0.0)]
    }
    fn update_tensor_state(&self, state: &mut [f32; 4], sums: [f32; 4], _: f32, _: [f32; 4], _: u32, is_first: bool) {
        let [exp_avg_sq, ..] = state;
        let (beta2, one_minus_beta2) = (self.betas.1 as f32, (1.0 - self.betas.1) as f32);
        let averaged = lerp(*exp_avg_sq, sums[0], beta2, one_minus_beta2);
        *exp_avg_sq = if is_first { sums[0] } else { averaged };
    }
}
