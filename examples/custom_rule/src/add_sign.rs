use std::borrow::Cow;

use wgpu_optim::rule::{Elements, RuleSpec, StepScalars};
use wgpu_optim::{Error, Rule};

/// `AddSign` (Bello et al. 2017, arXiv 1709.07417): gradients that point the way of their running average count
/// double, those against it not at all.
///
/// `exp_avg = beta·exp_avg + (1 - beta)·grad`; `param -= lr·(1 + sign(grad)·sign(exp_avg))·grad`.
#[derive(Debug, Clone)]
pub struct AddSign {
    pub lr: f64,
    pub beta: f64,
}

impl Rule for AddSign {
    fn spec(&self) -> RuleSpec {
        RuleSpec::new("add_sign", self.lr)
            .with_states(["exp_avg"])
            .with_hyperparameters([("beta", self.beta as f32), ("one_minus_beta", (1.0 - self.beta) as f32)])
    }
    fn validate(&self) -> Result<(), Error> {
        if (0.0..1.0).contains(&self.beta) {
            return Ok(());
        }
        Err(Error::Hyperparameter {
            owner: "add_sign".into(),
            name: "beta",
            value: self.beta,
            allowed: "0 <= beta < 1",
        })
    }
    fn wgsl(&self) -> Cow<'_, str> {
        "
fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    updated.exp_avg = hyper.beta * old.exp_avg + hyper.one_minus_beta * grad;
    let agreement = 1.0 + sign(grad) * sign(updated.exp_avg);
    updated.param = old.param - step.lr * (agreement * grad);
    return updated;
}
"
        .into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let (beta, one_minus_beta) = (self.beta as f32, (1.0 - self.beta) as f32);
        let sign = |value: f32| if value == 0.0 { 0.0 } else { value.signum() };
        elements.each(|param, grad, [exp_avg]| {
            let exp_avg = beta * exp_avg + one_minus_beta * grad;
            let agreement = 1.0 + sign(grad) * sign(exp_avg);
            (param - step.lr * (agreement * grad), [exp_avg])
        });
    }
}
