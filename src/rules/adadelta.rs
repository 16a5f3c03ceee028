use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, check_rate, check_weight};

rule! {
    /// Adadelta (Zeiler 2012, arXiv 1212.5701, Algorithm 1), as `torch.optim.Adadelta`.
    ///
    /// `grad += weight_decay·param`; `square_avg = rho·square_avg + (1 - rho)·grad²`;
    /// `delta = √(acc_delta + eps)/√(square_avg + eps) · grad`; `acc_delta = rho·acc_delta + (1 - rho)·delta²`;
    /// `param -= lr·delta`.
    ///
    /// State: 8 bytes per parameter (`square_avg`, `acc_delta`).
    Adadelta = "adadelta" from "torch.optim" {
        /// Learning rate; default 1.
        lr: f64 = 1.0, with_lr;
        /// β of both running averages, 0 to 1; default 0.9.
        rho: f64 = 0.9, with_rho;
        /// Added inside both roots; default 1e-6.
        eps: f64 = 1e-6, with_eps;
        /// L2 weight decay, added to the gradient; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants {}
}

impl Rule for Adadelta {
    fn spec(&self) -> RuleSpec {
        common_spec!(self).with_states([StateSpec::second_moment("square_avg"), StateSpec::second_moment("acc_delta")]).with_hyperparameters([
            ("rho", self.rho as f32),
            ("one_minus_rho", (1.0 - self.rho) as f32),
            ("eps", self.eps as f32),
        ])
    }
    fn validate(&self) -> Result<(), Error> {
        check_weight("adadelta", "rho", self.rho)?;
        check_rate("adadelta", "eps", self.eps)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/adadelta.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let (rho, one_minus_rho, eps) = (self.rho as f32, (1.0 - self.rho) as f32, self.eps as f32);
        elements.each(
            #[inline(always)]
            move |param, grad, [square_avg, acc_delta]| {
                let decayed = grad + step.weight_decay * param;
                let new_square_avg = rho * square_avg + one_minus_rho * (decayed * decayed);
                let delta = (acc_delta + eps).sqrt() / (new_square_avg + eps).sqrt() * decayed;
                let new_acc_delta = rho * acc_delta + one_minus_rho * (delta * delta);
                let new_param = param - step.lr * delta;
                (new_param, [new_square_avg, new_acc_delta])
            },
        );
    }
}
