use std::borrow::Cow;

use crate::Error;
use crate::error::check;
use crate::rule::{Elements, MeasuredElements, Rule, Step, common_options, setters};

/// Layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888): SGD with momentum, each tensor's gradient scaled
/// by a trust ratio of norms.
///
/// `ratio = trust_coefficient·‖param‖/(‖grad‖ + weight_decay·‖param‖ + eps)`, then SGD on
/// `ratio·(grad + weight_decay·param)`. The default convention and its defaults are those of `torch_optimizer.LARS`; see
/// [`LarsConvention`] for optax. In it, tensors without weight decay have no ratio: with the default, 0, this is plain SGD.
///
/// State: 4 bytes per parameter with momentum (`momentum_buffer`), else none. A step is 5 dispatches: the gradient's norm, the
/// decision, the tensors' sums, their adding up, the update (per chunk: the first, third and fifth).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Lars {
    /// Learning rate; default 1e-2.
    pub lr: f64,
    /// Momentum, 0 ≤ μ; default 0.
    pub momentum: f64,
    /// Dampening of the gradient's share in the buffer from the second step on; default 0.
    pub dampening: f64,
    /// L2 weight decay, added to the gradient; default 0.
    pub weight_decay: f64,
    /// Nesterov momentum (needs momentum and no dampening); default false.
    pub nesterov: bool,
    /// Factor of the trust ratio; default 0.01.
    pub trust_coefficient: f64,
    /// Added to the trust ratio's denominator; default 1e-8.
    pub eps: f64,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
    /// Whose equations; default [`LarsConvention::Torch`]. In configurations it is called `equations`: a convention there
    /// chooses the defaults too.
    #[cfg_attr(feature = "serde", serde(rename = "equations"))]
    pub convention: LarsConvention,
}

/// Where frameworks differ in [`Lars`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LarsConvention {
    /// `torch_optimizer.LARS`: `‖grad‖ + weight_decay·‖param‖` in the denominator, as in the paper; lr outside of the
    /// momentum buffer; tensors without weight decay take plain SGD steps, and tensors with a norm of 0 do without
    /// weight decay too.
    Torch,
    /// `optax.lars`: `‖grad + weight_decay·param‖` in the denominator; lr inside the momentum buffer, as in the paper; a
    /// ratio of 1 where a norm is 0. Takes no dampening.
    Optax,
}

impl Default for Lars {
    fn default() -> Self {
        Self::torch()
    }
}

impl Lars {
    /// The convention and the defaults of `torch_optimizer.LARS`.
    pub fn torch() -> Self {
        Self {
            lr: 1e-2,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            trust_coefficient: 0.01,
            eps: 1e-8,
            maximize: false,
            convention: LarsConvention::Torch,
        }
    }

    /// The convention and the defaults of `optax.lars`: momentum 0.9, trust coefficient 0.001, eps 0. (optax has no
    /// default lr; here it is 1e-2.)
    pub fn optax() -> Self {
        let convention = LarsConvention::Optax;
        Self { momentum: 0.9, trust_coefficient: 1e-3, eps: 0.0, convention, ..Self::torch() }
    }

    setters! {
        /// Sets [`Lars::lr`].
        with_lr(lr: f64),
        /// Sets [`Lars::momentum`].
        with_momentum(momentum: f64),
        /// Sets [`Lars::dampening`].
        with_dampening(dampening: f64),
        /// Sets [`Lars::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Lars::nesterov`].
        with_nesterov(nesterov: bool),
        /// Sets [`Lars::trust_coefficient`].
        with_trust_coefficient(trust_coefficient: f64),
        /// Sets [`Lars::eps`].
        with_eps(eps: f64),
        /// Sets [`Lars::maximize`].
        with_maximize(maximize: bool),
        /// Sets [`Lars::convention`].
        with_convention(convention: LarsConvention),
    }

    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }

    fn is_optax(&self) -> bool {
        self.convention == LarsConvention::Optax
    }

    /// What decayed gradients are multiplied by, and none where gradients are taken as they are. With the closure in `update`
    /// the twin of `scaled_grad` in `shaders/rule/lars.wgsl`: here it is found once for all elements.
    fn ratio(&self, step: &Step) -> Option<f32> {
        let [param_sq, grad_sq, ..] = step.measured;
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

impl Rule for Lars {
    common_options!("lars");

    fn states(&self) -> Vec<&str> {
        if self.has_momentum() { vec!["momentum_buffer"] } else { Vec::new() }
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        let mut hyperparameters = vec![("trust_coefficient", self.trust_coefficient as f32), ("eps", self.eps as f32)];
        if self.has_momentum() {
            hyperparameters.push(("momentum", self.momentum as f32));
            hyperparameters.push(("one_minus_dampening", (1.0 - self.dampening) as f32));
        }
        hyperparameters
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        let mut constants = vec![("optax", f64::from(u8::from(self.is_optax())))];
        if self.has_momentum() {
            constants.push(("nesterov", f64::from(u8::from(self.nesterov))));
        }
        constants
    }
    fn measures(&self) -> Vec<&str> {
        vec!["param_sq", "grad_sq"]
    }
    fn validate(&self) -> Result<(), Error> {
        let (owner, momentum, dampening) = (self.name(), self.momentum, self.dampening);
        let allowed = "0 or greater, finite";
        for (name, value) in [("momentum", momentum), ("trust_coefficient", self.trust_coefficient), ("eps", self.eps)]
        {
            check(value >= 0.0 && (value as f32).is_finite(), owner, name, value, allowed)?;
        }
        check((dampening as f32).is_finite(), owner, "dampening", dampening, "finite")?;
        if self.is_optax() {
            check(dampening == 0.0, owner, "dampening", dampening, "0 in optax's convention")?;
        }
        if self.nesterov {
            check(momentum > 0.0, owner, "momentum", momentum, "greater than 0 with nesterov")?;
            check(dampening == 0.0, owner, "dampening", dampening, "0 with nesterov")?;
        }
        Ok(())
    }
    fn wgsl(&self) -> Cow<'_, str> {
        let momentum = if self.has_momentum() {
            include_str!("../../shaders/rules/lars/momentum.wgsl")
        } else {
            include_str!("../../shaders/rules/lars/plain.wgsl")
        };
        format!("{}\n{momentum}", include_str!("../../shaders/rules/lars.wgsl")).into()
    }
    fn measure(&self, elements: MeasuredElements<'_>, step: &Step) {
        let (step, optax) = (*step, self.is_optax());
        let measure = move |param: f32, grad: f32| {
            let mut measured_grad = grad;
            if optax {
                measured_grad = grad + step.weight_decay * param;
            }
            [param * param, measured_grad * measured_grad]
        };
        if self.has_momentum() {
            elements.each(
                #[inline(always)]
                move |param, grad, [_]| measure(param, grad),
            );
        } else {
            elements.each(
                #[inline(always)]
                move |param, grad, []| measure(param, grad),
            );
        }
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
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
                let new_momentum_buffer = if step.t == 1 { scaled } else { averaged };
                let mut direction = new_momentum_buffer;
                if rule.nesterov {
                    direction = scaled + momentum * new_momentum_buffer;
                }
                let new_param = param - lr_outside * direction;
                (new_param, [new_momentum_buffer])
            },
        );
    }
}
