use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, check_rate};

rule! {
    /// Adagrad (Duchi et al. 2011, JMLR 12), as `torch.optim.Adagrad`.
    ///
    /// `grad += weight_decay·param`; `sum += grad²`; `param -= lr/(1 + (t - 1)·lr_decay) · grad / (√sum + eps)`.
    ///
    /// State: 4 bytes per parameter (`sum`).
    Adagrad = "adagrad" from "torch.optim" {
        /// Learning rate; default 1e-2.
        lr: f64 = 1e-2, with_lr;
        /// Decay of the learning rate: step t divides it by `1 + (t - 1)·lr_decay`; default 0.
        lr_decay: f64 = 0.0, with_lr_decay;
        /// L2 weight decay, added to the gradient; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Value of `sum` before the first step; default 0.
        initial_accumulator_value: f64 = 0.0, with_initial_accumulator_value;
        /// Added to the denominator; default 1e-10.
        eps: f64 = 1e-10, with_eps;
        /// Divide by `√(sum + eps)`, as optax and TensorFlow do; default false.
        eps_in_root: bool = false, with_eps_in_root;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {
        optax: "eps inside the root, 1e-7; accumulator starts at 0.1",
        keras: "eps inside the root, 1e-7; accumulator starts at 0.1; lr 1e-3",
        burn: "eps 1e-5",
    }
    variants { Self::optax() }
}

impl Adagrad {
    /// `optax.adagrad`: `sum` starts at 0.1; eps, 1e-7, is added inside the root. optax has no default learning rate;
    /// this keeps the default.
    pub fn optax() -> Self {
        Self { initial_accumulator_value: 0.1, eps: 1e-7, eps_in_root: true, ..Self::default() }
    }

    /// `keras.optimizers.Adagrad`: as optax, with learning rate 1e-3. Weight decay is decoupled in Keras, L2 here.
    pub fn keras() -> Self {
        Self { lr: 1e-3, ..Self::optax() }
    }

    /// `burn::optim::AdaGradConfig`: eps 1e-5. burn has no default learning rate; this keeps the default.
    pub fn burn() -> Self {
        Self { eps: 1e-5, ..Self::default() }
    }
}

impl Rule for Adagrad {
    fn spec(&self) -> RuleSpec {
        common_spec!(self)
            .with_states([StateSpec::second_moment("sum").with_initial(self.initial_accumulator_value as f32)])
            .with_hyperparameters([("lr_decay", self.lr_decay as f32), ("eps", self.eps as f32)])
            .with_flags([("eps_in_root", self.eps_in_root)])
    }
    fn validate(&self) -> Result<(), Error> {
        check_rate("adagrad", "lr_decay", self.lr_decay)?;
        check_rate("adagrad", "initial_accumulator_value", self.initial_accumulator_value)?;
        check_rate("adagrad", "eps", self.eps)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/adagrad.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let (lr_decay, eps, eps_in_root) = (self.lr_decay as f32, self.eps as f32, self.eps_in_root);
        elements.each(
            #[inline(always)]
            move |param, grad, [sum]| {
                let decayed = grad + step.weight_decay * param;
                let new_sum = sum + decayed * decayed;
                let clr = step.lr / (1.0 + step.t.wrapping_sub(1) as f32 * lr_decay);
                let mut denom = new_sum.sqrt() + eps;
                if eps_in_root {
                    denom = (new_sum + eps).sqrt();
                }
                let new_param = param - clr * (decayed / denom);
                (new_param, [new_sum])
            },
        );
    }
}
