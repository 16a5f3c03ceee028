use std::borrow::Cow;

use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Rule, Step, agree, common_options, cycles, setters};

/// Stochastic gradient descent with momentum, as `torch.optim.SGD`.
///
/// `grad += weight_decay·param`; with momentum `buf = grad` at the first step, later
/// `buf = momentum·buf + (1 - dampening)·grad`; `param -= lr·buf`, or with Nesterov `lr·(grad + momentum·buf)`.
///
/// State: none, or with momentum 4 bytes per parameter (`momentum_buffer`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework, under its name")]
pub struct Sgd {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// Momentum, 0 ≤ μ; default 0.
    pub momentum: f64,
    /// Dampening of the gradient's share in the buffer; default 0.
    pub dampening: f64,
    /// Dampen the gradient of the first step too: the buffer starts as 0, and `dampening = momentum` makes it a running
    /// average of gradients (`optax.ema`, optimi). Default false.
    pub dampen_first_step: bool,
    /// `buf = momentum·buf + lr·grad` and `param -= buf`, as Keras and TensorFlow do: a new learning rate leaves what is
    /// in the buffer alone. Default false.
    pub lr_in_buffer: bool,
    /// L2 weight decay, added to the gradient; default 0.
    pub weight_decay: f64,
    /// Nesterov momentum (needs momentum and no dampening); default false.
    pub nesterov: bool,
    /// Leave parameters whose update has not the gradient's sign where they are: see
    /// [`AdamW::cautious`](crate::AdamW). Needs momentum; default false.
    pub cautious: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            dampen_first_step: false,
            lr_in_buffer: false,
            weight_decay: 0.0,
            nesterov: false,
            cautious: false,
            maximize: false,
        }
    }
}

impl Sgd {
    /// `keras.optimizers.SGD`: learning rate 1e-2, and it is in the momentum buffer (which Keras keeps with the other
    /// sign). What Keras calls its weight decay is decoupled; this has PyTorch's.
    pub fn keras() -> Self {
        Self { lr: 1e-2, lr_in_buffer: true, ..Self::default() }
    }

    setters! {
        /// Sets [`Sgd::lr`].
        with_lr(lr: f64),
        /// Sets [`Sgd::momentum`].
        with_momentum(momentum: f64),
        /// Sets [`Sgd::dampening`].
        with_dampening(dampening: f64),
        /// Sets [`Sgd::dampen_first_step`].
        with_dampen_first_step(dampen_first_step: bool),
        /// Sets [`Sgd::lr_in_buffer`].
        with_lr_in_buffer(lr_in_buffer: bool),
        /// Sets [`Sgd::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Sgd::nesterov`].
        with_nesterov(nesterov: bool),
        /// Sets [`Sgd::cautious`].
        with_cautious(cautious: bool),
        /// Sets [`Sgd::maximize`].
        with_maximize(maximize: bool),
    }

    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }
}

impl Rule for Sgd {
    common_options!("sgd");
    cycles!(momentum);

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
        if !self.has_momentum() {
            return Vec::new();
        }
        let flag = |name, flag| (name, f64::from(u8::from(flag)));
        vec![
            flag("nesterov", self.nesterov),
            flag("dampen_first_step", self.dampen_first_step),
            flag("lr_in_buffer", self.lr_in_buffer),
            flag("cautious", self.cautious),
        ]
    }
    fn validate(&self) -> Result<(), Error> {
        let (owner, momentum, dampening) = (self.name(), self.momentum, self.dampening);
        check(momentum >= 0.0 && (momentum as f32).is_finite(), owner, "momentum", momentum, "0 or greater, finite")?;
        check((dampening as f32).is_finite(), owner, "dampening", dampening, "finite")?;
        let possible = momentum > 0.0 || !self.cautious;
        check(possible, owner, "momentum", momentum, "greater than 0 where cautious")?;
        if self.nesterov {
            check(momentum > 0.0, owner, "momentum", momentum, "greater than 0 with nesterov")?;
            check(dampening == 0.0, owner, "dampening", dampening, "0 with nesterov")?;
        }
        Ok(())
    }
    fn wgsl(&self) -> Cow<'_, str> {
        if self.has_momentum() {
            concat!(include_str!("../../shaders/rules/momentum.wgsl"), include_str!("../../shaders/rule/agree.wgsl"))
                .into()
        } else {
            include_str!("../../shaders/rules/sgd.wgsl").into()
        }
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        if !self.has_momentum() {
            return elements.each(
                #[inline(always)]
                move |param, grad, []| {
                    let new_param = param - step.lr * (grad + step.weight_decay * param);
                    (new_param, [])
                },
            );
        }
        let momentum = self.momentum as f32;
        let one_minus_dampening = (1.0 - self.dampening) as f32;
        let Self { nesterov, dampen_first_step, lr_in_buffer, cautious, .. } = *self;
        let step = *step;
        elements.each(
            #[inline(always)]
            move |param, grad, [momentum_buffer]| {
                let decayed = grad + step.weight_decay * param;
                let mut share = decayed;
                if lr_in_buffer {
                    share = step.lr * decayed;
                }
                let mut new_momentum_buffer = momentum * momentum_buffer + one_minus_dampening * share;
                if !dampen_first_step && step.t == 1 {
                    new_momentum_buffer = share;
                }
                let mut direction = new_momentum_buffer;
                if nesterov {
                    direction = share + momentum * new_momentum_buffer;
                }
                if cautious {
                    direction *= f32::from(u8::from(agree(direction, decayed)));
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
