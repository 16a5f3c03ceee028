use std::borrow::Cow;

use super::declare::{common_spec, cycles_momentum, rule};
use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, same_sign};

rule! {
    /// Stochastic gradient descent with momentum, as `torch.optim.SGD`.
    ///
    /// `grad += weight_decay·param`; with momentum `buf = grad` at the first step, later
    /// `buf = momentum·buf + (1 - dampening)·grad`; `param -= lr·buf`, or with Nesterov `lr·(grad + momentum·buf)`.
    ///
    /// State: none, or with momentum 4 bytes per parameter (`momentum_buffer`).
    Sgd = "sgd" from "torch.optim" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// Momentum, 0 ≤ μ; default 0.
        momentum: f64 = 0.0, with_momentum;
        /// Dampening of the gradient's share in the buffer; default 0.
        dampening: f64 = 0.0, with_dampening;
        /// Dampen the gradient of the first step too: the buffer starts at 0. With `dampening = momentum` it is a
        /// running average of gradients (`optax.ema`, optimi); default false.
        dampen_first_step: bool = false, with_dampen_first_step;
        /// `buf = momentum·buf + lr·grad` and `param -= buf`, as Keras and TensorFlow do: a new learning rate does not
        /// scale earlier gradients; default false.
        lr_in_buffer: bool = false, with_lr_in_buffer;
        /// L2 weight decay, added to the gradient; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Nesterov momentum. Requires momentum. With dampening as in burn: `grad` counts whole beside the dampened buffer.
        /// PyTorch refuses both together; default false.
        nesterov: bool = false, with_nesterov;
        /// Skip the update of elements where update and gradient differ in sign, as
        /// [`AdamW::cautious`](crate::AdamW::cautious). Requires momentum; default false.
        cautious: bool = false, with_cautious;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets { keras: "learning rate in the momentum buffer; lr 1e-2" }
    variants {
        Self::default().with_momentum(0.9),
        Self::default().with_momentum(0.9).with_nesterov(true),
        Self::keras().with_momentum(0.9).with_dampen_first_step(true),
        Self::default().with_momentum(0.9).with_cautious(true),
    }
}

impl Sgd {
    /// `keras.optimizers.SGD`: learning rate 1e-2, inside the momentum buffer. Keras's buffer has the opposite sign.
    /// Weight decay is decoupled in Keras, L2 here.
    pub fn keras() -> Self {
        Self { lr: 1e-2, lr_in_buffer: true, ..Self::default() }
    }

    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }
}

impl Rule for Sgd {
    cycles_momentum!(momentum);

    fn spec(&self) -> RuleSpec {
        common_spec!(self)
            .with_states([StateSpec::first_moment("momentum_buffer").only_if(self.has_momentum())])
            .with_hyperparameters([
                ("momentum", self.momentum as f32),
                ("one_minus_dampening", (1.0 - self.dampening) as f32),
            ])
            .with_flags([
                ("has_momentum", self.has_momentum()),
                ("nesterov", self.nesterov),
                ("dampen_first_step", self.dampen_first_step),
                ("lr_in_buffer", self.lr_in_buffer),
                ("cautious", self.cautious),
            ])
    }
    fn validate(&self) -> Result<(), Error> {
        let (momentum, dampening) = (self.momentum, self.dampening);
        check(momentum >= 0.0 && (momentum as f32).is_finite(), "sgd", "momentum", momentum, "0 or greater, finite")?;
        check((dampening as f32).is_finite(), "sgd", "dampening", dampening, "finite")?;
        let possible = momentum > 0.0 || !self.cautious;
        check(possible, "sgd", "momentum", momentum, "greater than 0 where cautious")?;
        if self.nesterov {
            check(momentum > 0.0, "sgd", "momentum", momentum, "greater than 0 with nesterov")?;
        }
        Ok(())
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/sgd.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        if !self.has_momentum() {
            return elements.each(
                #[inline(always)]
                move |param, grad, []| {
                    let decayed = grad + step.weight_decay * param;
                    let new_param = param - step.lr * decayed;
                    (new_param, [])
                },
            );
        }
        let momentum = self.momentum as f32;
        let one_minus_dampening = (1.0 - self.dampening) as f32;
        let Self { nesterov, dampen_first_step, lr_in_buffer, cautious, .. } = *self;
        elements.each(
            #[inline(always)]
            move |param, grad, [momentum_buffer]| {
                let decayed = grad + step.weight_decay * param;
                let mut share = decayed;
                if lr_in_buffer {
                    share = step.lr * decayed;
                }
                let mut new_momentum_buffer = momentum * momentum_buffer + one_minus_dampening * share;
                if !dampen_first_step && step.is_first {
                    new_momentum_buffer = share;
                }
                let mut direction = new_momentum_buffer;
                if nesterov {
                    direction = share + momentum * new_momentum_buffer;
                }
                if cautious {
                    direction *= f32::from(u8::from(same_sign(direction, decayed)));
                }
                if !lr_in_buffer {
                    direction *= step.lr;
                }
                let new_param = param - direction;
                (new_param, [new_momentum_buffer])
            },
        );
    }
}
