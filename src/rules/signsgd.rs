use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, check_beta, lerp, sign_of};

rule! {
    /// `SignSGD` and, with momentum, Signum (Bernstein et al. 2018, arXiv 1802.04434), as `optax.sign_sgd` and
    /// `optax.signum`.
    ///
    /// `param *= 1 - lr·weight_decay`; `param -= lr·sign(grad)` with sign(0) = 0, or with momentum
    /// `momentum_buffer = momentum·momentum_buffer + (1 - momentum)·grad` in place of `grad`.
    ///
    /// State: none, or with momentum 4 bytes per parameter (`momentum_buffer`).
    SignSgd = "signsgd" from "optax" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// β of the running average of the gradient, 0 ≤ momentum < 1 (optax's Signum: 0.9); default 0.
        momentum: f64 = 0.0, with_momentum;
        /// Decoupled weight decay, as `optax.add_decayed_weights` before the learning rate; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants { Self::default().with_momentum(0.9) }
}

impl SignSgd {
    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }

    /// momentum, 1 - momentum.
    fn rounded(&self) -> [f32; 2] {
        [self.momentum as f32, (1.0 - self.momentum) as f32]
    }
}

impl Rule for SignSgd {
    fn spec(&self) -> RuleSpec {
        let [momentum, one_minus_momentum] = self.rounded();
        common_spec!(self)
            .with_states([StateSpec::first_moment("momentum_buffer").only_if(self.has_momentum())])
            .with_hyperparameters([("momentum", momentum), ("one_minus_momentum", one_minus_momentum)])
            .with_flags([("has_momentum", self.has_momentum())])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("signsgd", "momentum", self.momentum)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/signsgd.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        if !self.has_momentum() {
            return elements.each(
                #[inline(always)]
                move |param, grad, []| {
                    let decay = (step.lr * step.weight_decay) * param;
                    let new_param = param - (decay + step.lr * sign_of(grad));
                    (new_param, [])
                },
            );
        }
        let [momentum, one_minus_momentum] = self.rounded();
        elements.each(
            #[inline(always)]
            move |param, grad, [momentum_buffer]| {
                let new_momentum_buffer = lerp(momentum_buffer, grad, momentum, one_minus_momentum);
                let decay = (step.lr * step.weight_decay) * param;
                let new_param = param - (decay + step.lr * sign_of(new_momentum_buffer));
                (new_param, [new_momentum_buffer])
            },
        );
    }
}
