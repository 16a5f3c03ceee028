use std::borrow::Cow;

use super::declare::rule;
use crate::Error;
use crate::error::{check, is_rate};
use crate::rule::{Elements, Rule, RuleSpec, StepScalars, sign_of};

rule! {
    /// Rprop (Riedmiller & Braun 1993, IEEE International Conference on Neural Networks; without weight backtracking),
    /// as `torch.optim.Rprop`. It uses only the signs of gradients: compute them from the whole data set.
    ///
    /// If the gradient has the same sign as in the previous step: `step_size *= etas.1`, clamped to `step_sizes`.
    /// Opposite sign: `step_size *= etas.0`, clamped, and `grad = 0`. Then `param -= sign(grad)·step_size`.
    ///
    /// As in PyTorch, the learning rate, scaled by the group, is the `step_size` before the first applied step. Later
    /// learning rates and weight decays of groups have no effect.
    ///
    /// State: 8 bytes per parameter (`prev`, the last gradient; `step_size`).
    Rprop = "rprop" from "torch.optim" {
        /// First step size; default 1e-2.
        lr: f64 = 1e-2, with_lr;
        /// Factors of the step size where the sign changes and where it stays, `0 < η⁻ < 1 < η⁺`; default (0.5, 1.2).
        etas: (f64, f64) = (0.5, 1.2), with_etas;
        /// Minimum and maximum step size; default (1e-6, 50).
        step_sizes: (f64, f64) = (1e-6, 50.0), with_step_sizes;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {}
    variants {}
}

impl Rule for Rprop {
    fn spec(&self) -> RuleSpec {
        RuleSpec::new("rprop", self.lr)
            .with_maximize(self.maximize)
            .with_states(["prev", "step_size"])
            .with_hyperparameters([
                ("eta_minus", self.etas.0 as f32),
                ("eta_plus", self.etas.1 as f32),
                ("step_size_min", self.step_sizes.0 as f32),
                ("step_size_max", self.step_sizes.1 as f32),
            ])
    }
    fn validate(&self) -> Result<(), Error> {
        let (owner, (eta_minus, eta_plus), (smallest, largest)) = ("rprop", self.etas, self.step_sizes);
        check(eta_minus > 0.0 && eta_minus < 1.0, owner, "etas.0", eta_minus, "greater than 0, less than 1")?;
        check(eta_plus > 1.0 && is_rate(eta_plus), owner, "etas.1", eta_plus, "greater than 1, finite in f32")?;
        check(is_rate(largest), owner, "step_sizes.1", largest, "0 or greater, finite in f32")?;
        check(smallest >= 0.0 && smallest <= largest, owner, "step_sizes.0", smallest, "0 to step_sizes.1")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/rprop.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let (eta_minus, eta_plus) = (self.etas.0 as f32, self.etas.1 as f32);
        let (step_size_min, step_size_max) = (self.step_sizes.0 as f32, self.step_sizes.1 as f32);
        elements.each(
            #[inline(always)]
            move |param, grad, [prev, step_size]| {
                let mut new_step_size = step_size;
                if step.is_first {
                    new_step_size = step.lr;
                }
                let agreement = sign_of(grad) * sign_of(prev);
                let mut eta = if agreement > 0.0 { eta_plus } else { 1.0 };
                eta = if agreement < 0.0 { eta_minus } else { eta };
                let largest = (new_step_size * eta).min(step_size_max);
                new_step_size = largest.max(step_size_min);
                let new_prev = if agreement < 0.0 { 0.0 } else { grad };
                let new_param = param - sign_of(new_prev) * new_step_size;
                (new_param, [new_prev, new_step_size])
            },
        );
    }
}
