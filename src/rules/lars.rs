use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Reduction, Rule, RuleSpec, StateSpec, StepScalars, Terms};

rule! {
    /// Layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888): SGD with momentum on gradients scaled by a
    /// trust ratio per tensor.
    ///
    /// `ratio = trust_coefficient·‖param‖/(‖grad‖ + weight_decay·‖param‖ + eps)`, then SGD on
    /// `ratio·(grad + weight_decay·param)`.
    ///
    /// The default is `torch_optimizer.LARS`. Tensors without weight decay have no ratio there: with the default decay,
    /// 0, this is plain SGD. [`LarsEquations`] has optax's equations.
    ///
    /// State: none, or with momentum 4 bytes per parameter (`momentum_buffer`). Dispatches: five, three of them per
    /// chunk.
    Lars = "lars" from "torch-optimizer" {
        /// Learning rate; default 1e-2.
        lr: f64 = 1e-2, with_lr;
        /// Momentum, 0 ≤ μ; default 0.
        momentum: f64 = 0.0, with_momentum;
        /// Dampening of the gradient's share in the buffer from the second step on; default 0.
        dampening: f64 = 0.0, with_dampening;
        /// L2 weight decay, added to the gradient; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Nesterov momentum. Requires momentum and no dampening; default false.
        nesterov: bool = false, with_nesterov;
        /// Factor of the trust ratio; default 0.01.
        trust_coefficient: f64 = 0.01, with_trust_coefficient;
        /// Added to the trust ratio's denominator; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
        /// Framework whose equations apply; default [`LarsEquations::Torch`].
        equations: LarsEquations = LarsEquations::Torch, with_equations;
    }
    presets { optax: "optax's equations; momentum 0.9, trust coefficient 1e-3, eps 0" }
    variants { Self::default().with_momentum(0.9), Self::optax().with_nesterov(true) }
}

impl Lars {
    /// `torch_optimizer.LARS`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.lars`: optax's equations, momentum 0.9, trust coefficient 1e-3, eps 0. optax has no default learning
    /// rate; this keeps 1e-2.
    pub fn optax() -> Self {
        let equations = LarsEquations::Optax;
        Self { momentum: 0.9, trust_coefficient: 1e-3, eps: 0.0, equations, ..Self::default() }
    }

    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }

    fn is_optax(&self) -> bool {
        self.equations == LarsEquations::Optax
    }

    /// The factor of decayed gradients; none for gradients that are neither decayed nor scaled. With the closure in
    /// `update`, this is `scaled_grad` of the WGSL: the ratio is computed once for all elements.
    fn ratio(&self, step: &StepScalars) -> Option<f32> {
        let [param_sq, grad_sq, ..] = step.sums;
        let (param_norm, grad_norm) = (param_sq.sqrt(), grad_sq.sqrt());
        let vanishes = param_norm == 0.0 || grad_norm == 0.0;
        let (trust_coefficient, eps) = (self.trust_coefficient as f32, self.eps as f32);
        if self.is_optax() {
            let ratio = trust_coefficient * param_norm / (grad_norm + eps);
            return Some(if vanishes { 1.0 } else { ratio });
        }
        let ratio = trust_coefficient * (param_norm / (grad_norm + step.weight_decay * param_norm + eps));
        if vanishes || step.weight_decay == 0.0 { None } else { Some(ratio) }
    }
}

/// The equations of [`Lars`] in which frameworks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LarsEquations {
    /// `torch_optimizer.LARS`: `‖grad‖ + weight_decay·‖param‖` in the denominator, as in the paper; lr outside of the
    /// momentum buffer. Tensors without weight decay or with a norm of 0 step as in SGD without weight decay.
    Torch,
    /// `optax.lars`: `‖grad + weight_decay·param‖` in the denominator; lr inside the momentum buffer, as in the paper; a
    /// ratio of 1 where a norm is 0. Requires a dampening of 0.
    Optax,
}

#[cfg(feature = "serde")]
crate::number::as_is!(LarsEquations);

impl Rule for Lars {
    fn spec(&self) -> RuleSpec {
        common_spec!(self)
            .with_states([StateSpec::first_moment("momentum_buffer").only_if(self.has_momentum())])
            .with_hyperparameters([
                ("trust_coefficient", self.trust_coefficient as f32),
                ("eps", self.eps as f32),
                ("momentum", self.momentum as f32),
                ("one_minus_dampening", (1.0 - self.dampening) as f32),
            ])
            .with_flags([
                ("optax", self.is_optax()),
                ("has_momentum", self.has_momentum()),
                ("nesterov", self.nesterov),
            ])
    }
    fn validate(&self) -> Result<(), Error> {
        let (owner, momentum, dampening) = ("lars", self.momentum, self.dampening);
        let allowed = "0 or greater, finite";
        for (name, value) in [("momentum", momentum), ("trust_coefficient", self.trust_coefficient), ("eps", self.eps)]
        {
            check(value >= 0.0 && (value as f32).is_finite(), owner, name, value, allowed)?;
        }
        check((dampening as f32).is_finite(), owner, "dampening", dampening, "finite")?;
        if self.is_optax() {
            check(dampening == 0.0, owner, "dampening", dampening, "0 in optax's equations")?;
        }
        if self.nesterov {
            check(momentum > 0.0, owner, "momentum", momentum, "greater than 0 with nesterov")?;
            check(dampening == 0.0, owner, "dampening", dampening, "0 with nesterov")?;
        }
        Ok(())
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/lars.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let (rule, step) = (self.clone(), *step);
        let ratio = rule.ratio(&step);
        let scaled_grad =
            move |param: f32, grad: f32| ratio.map_or(grad, |ratio| ratio * (grad + step.weight_decay * param));
        if !rule.has_momentum() {
            return elements.each(
                #[inline(always)]
                move |param, grad, []| {
                    let new_param = param - step.lr * scaled_grad(param, grad);
                    (new_param, [])
                },
            );
        }
        let momentum = rule.momentum as f32;
        let one_minus_dampening = (1.0 - rule.dampening) as f32;
        let optax = rule.is_optax();
        elements.each(
            #[inline(always)]
            move |param, grad, [momentum_buffer]| {
                let mut scaled = scaled_grad(param, grad);
                let mut lr_outside = step.lr;
                if optax {
                    scaled *= step.lr;
                    lr_outside = 1.0;
                }
                let averaged = momentum * momentum_buffer + one_minus_dampening * scaled;
                let new_momentum_buffer = if step.is_first { scaled } else { averaged };
                let mut direction = new_momentum_buffer;
                if rule.nesterov {
                    direction = scaled + momentum * new_momentum_buffer;
                }
                let new_param = param - lr_outside * direction;
                (new_param, [new_momentum_buffer])
            },
        );
    }
    fn reduction(&self) -> Option<&dyn Reduction> {
        Some(self)
    }
}

impl Reduction for Lars {
    fn sums(&self) -> Vec<&'static str> {
        vec!["param_sq", "grad_sq"]
    }
    fn terms(&self, elements: Terms<'_>, step: &StepScalars) {
        let (step, optax) = (*step, self.is_optax());
        let terms = move |param: f32, grad: f32| {
            let mut summed_grad = grad;
            if optax {
                summed_grad = grad + step.weight_decay * param;
            }
            [param * param, summed_grad * summed_grad]
        };
        if self.has_momentum() {
            elements.each(
                #[inline(always)]
                move |param, grad, [_]| terms(param, grad),
            );
        } else {
            elements.each(
                #[inline(always)]
                move |param, grad, []| terms(param, grad),
            );
        }
    }
}
