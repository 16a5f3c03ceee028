use std::borrow::Cow;

use super::{Elements, Rule, Step, setters};
use crate::Error;
use crate::error::check;

/// Stochastic gradient descent with momentum, as `torch.optim.SGD`.
///
/// `grad += weight_decay·param`; with momentum `buf = grad` at the first step, later
/// `buf = momentum·buf + (1 - dampening)·grad`; `param -= lr·buf`, or with Nesterov `lr·(grad + momentum·buf)`.
///
/// State: none, or with momentum 4 bytes per parameter (`momentum_buffer`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Sgd {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// Momentum, 0 ≤ μ; default 0.
    pub momentum: f64,
    /// Dampening of the gradient's share in the buffer; default 0.
    pub dampening: f64,
    /// L2 weight decay, added to the gradient; default 0.
    pub weight_decay: f64,
    /// Nesterov momentum (needs momentum and no dampening); default false.
    pub nesterov: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { lr: 1e-3, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, maximize: false }
    }
}

impl Sgd {
    setters! {
        /// Sets [`Sgd::lr`].
        with_lr(lr: f64),
        /// Sets [`Sgd::momentum`].
        with_momentum(momentum: f64),
        /// Sets [`Sgd::dampening`].
        with_dampening(dampening: f64),
        /// Sets [`Sgd::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Sgd::nesterov`].
        with_nesterov(nesterov: bool),
        /// Sets [`Sgd::maximize`].
        with_maximize(maximize: bool),
    }

    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }
}

impl Rule for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn lr(&self) -> f64 {
        self.lr
    }
    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }
    fn maximize(&self) -> bool {
        self.maximize
    }
    fn states(&self) -> Vec<&str> {
        if self.has_momentum() { vec!["momentum_buffer"] } else { Vec::new() }
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        if self.has_momentum() {
            vec![("momentum", self.momentum as f32), ("one_minus_dampening", (1.0 - self.dampening) as f32)]
        } else {
            Vec::new()
        }
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        if self.has_momentum() { vec![("nesterov", f64::from(u8::from(self.nesterov)))] } else { Vec::new() }
    }
    fn validate(&self) -> Result<(), Error> {
        let (owner, momentum, dampening) = (self.name(), self.momentum, self.dampening);
        check(momentum >= 0.0 && (momentum as f32).is_finite(), owner, "momentum", momentum, "0 or greater, finite")?;
        check((dampening as f32).is_finite(), owner, "dampening", dampening, "finite")?;
        if self.nesterov {
            check(momentum > 0.0, owner, "momentum", momentum, "greater than 0 with nesterov")?;
            check(dampening == 0.0, owner, "dampening", dampening, "0 with nesterov")?;
        }
        Ok(())
    }
    fn wgsl(&self) -> Cow<'_, str> {
        if self.has_momentum() {
            include_str!("../../shaders/rule/momentum.wgsl").into()
        } else {
            include_str!("../../shaders/rule/sgd.wgsl").into()
        }
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        if !self.has_momentum() {
            return elements.each(|param, grad, []| {
                let new_param = param - step.lr * (grad + step.weight_decay * param);
                (new_param, [])
            });
        }
        let momentum = self.momentum as f32;
        let one_minus_dampening = (1.0 - self.dampening) as f32;
        elements.each(|param, grad, [momentum_buffer]| {
            let decayed = grad + step.weight_decay * param;
            let mut new_momentum_buffer = momentum * momentum_buffer + one_minus_dampening * decayed;
            if step.t == 1 {
                new_momentum_buffer = decayed;
            }
            let mut direction = new_momentum_buffer;
            if self.nesterov {
                direction = decayed + momentum * new_momentum_buffer;
            }
            let new_param = param - step.lr * direction;
            (new_param, [new_momentum_buffer])
        });
    }
}
