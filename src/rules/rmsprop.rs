use std::borrow::Cow;

use crate::Error;
use crate::rule::{Elements, Rule, Step, check_rate, check_weight, common_options, cycles, setters};

/// RMSprop (Tieleman & Hinton 2012, lecture 6.5 of their course), as `torch.optim.RMSprop`.
///
/// `grad += weight_decay·param`; `square_avg = alpha·square_avg + (1 - alpha)·grad²`;
/// `param -= lr·grad / (√square_avg + eps)`. Centered (Graves 2013, arXiv 1308.0850), the root is that of
/// `max(square_avg - grad_avg², 0)`: PyTorch, without the maximum, may make NaN of a rounding error. With momentum
/// `buf = momentum·buf + grad/…`; `param -= lr·buf`.
///
/// State: 4 bytes per parameter (`square_avg`), 4 more centered (`grad_avg`), 4 more with momentum
/// (`momentum_buffer`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework, under its name")]
pub struct RmsProp {
    /// Learning rate; default 1e-2.
    pub lr: f64,
    /// β of the running averages, 0 to 1; default 0.99.
    pub alpha: f64,
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// L2 weight decay, added to the gradient; default 0.
    pub weight_decay: f64,
    /// Momentum, 0 ≤ μ; default 0.
    pub momentum: f64,
    /// Divide by the gradient's standard deviation instead of its root mean square; default false.
    pub centered: bool,
    /// Divide by `√(square_avg + eps)`, as optax, Keras and TensorFlow do; default false.
    pub eps_in_root: bool,
    /// With momentum, `buf = momentum·buf + lr·grad/…` and `param -= buf`, as optax, Keras and TensorFlow do: a new
    /// learning rate leaves what is in the buffer alone. Default false.
    pub lr_in_buffer: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self {
            lr: 1e-2,
            alpha: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            momentum: 0.0,
            centered: false,
            eps_in_root: false,
            lr_in_buffer: false,
            maximize: false,
        }
    }
}

impl RmsProp {
    /// `optax.rmsprop`: alpha is 0.9, eps is added inside the root, and the learning rate is in the momentum buffer
    /// (which optax keeps with the other sign). optax has no default learning rate; this keeps PyTorch's.
    pub fn optax() -> Self {
        Self { alpha: 0.9, eps_in_root: true, lr_in_buffer: true, ..Self::default() }
    }

    /// `keras.optimizers.RMSprop`: as optax, with learning rate 1e-3 and eps 1e-7. What Keras calls its weight decay is
    /// decoupled; this has PyTorch's.
    pub fn keras() -> Self {
        Self { lr: 1e-3, eps: 1e-7, ..Self::optax() }
    }

    setters! {
        /// Sets [`RmsProp::lr`].
        with_lr(lr: f64),
        /// Sets [`RmsProp::alpha`].
        with_alpha(alpha: f64),
        /// Sets [`RmsProp::eps`].
        with_eps(eps: f64),
        /// Sets [`RmsProp::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`RmsProp::momentum`].
        with_momentum(momentum: f64),
        /// Sets [`RmsProp::centered`].
        with_centered(centered: bool),
        /// Sets [`RmsProp::eps_in_root`].
        with_eps_in_root(eps_in_root: bool),
        /// Sets [`RmsProp::lr_in_buffer`].
        with_lr_in_buffer(lr_in_buffer: bool),
        /// Sets [`RmsProp::maximize`].
        with_maximize(maximize: bool),
    }

    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }

    fn hyper(&self) -> Hyper {
        Hyper {
            alpha: self.alpha as f32,
            one_minus_alpha: (1.0 - self.alpha) as f32,
            eps: self.eps as f32,
            momentum: self.momentum as f32,
            eps_in_root: self.eps_in_root,
            lr_in_buffer: self.lr_in_buffer,
        }
    }
}

impl Rule for RmsProp {
    common_options!("rmsprop");
    cycles!(momentum);

    fn states(&self) -> Vec<&str> {
        let mut states = vec!["square_avg"];
        states.extend(self.centered.then_some("grad_avg"));
        states.extend(self.has_momentum().then_some("momentum_buffer"));
        states
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        let Hyper { alpha, one_minus_alpha, eps, momentum, .. } = self.hyper();
        let mut hyperparameters = vec![("alpha", alpha), ("one_minus_alpha", one_minus_alpha), ("eps", eps)];
        hyperparameters.extend(self.has_momentum().then_some(("momentum", momentum)));
        hyperparameters
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        let flag = |name, value| (name, f64::from(u8::from(value)));
        let mut constants = vec![flag("eps_in_root", self.eps_in_root)];
        constants.extend(self.has_momentum().then_some(flag("lr_in_buffer", self.lr_in_buffer)));
        constants
    }
    fn validate(&self) -> Result<(), Error> {
        check_weight(self.name(), "alpha", self.alpha)?;
        check_rate(self.name(), "eps", self.eps)?;
        check_rate(self.name(), "momentum", self.momentum)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        let second_moment = if self.centered {
            include_str!("../../shaders/rules/rmsprop/centered.wgsl")
        } else {
            include_str!("../../shaders/rules/rmsprop/plain.wgsl")
        };
        let change = if self.has_momentum() {
            include_str!("../../shaders/rules/rmsprop/momentum.wgsl")
        } else {
            include_str!("../../shaders/rules/rmsprop/bare.wgsl")
        };
        [include_str!("../../shaders/rules/rmsprop.wgsl"), second_moment, change].join("\n").into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let step = *step;
        let hyper = &self.hyper();
        match (self.centered, self.has_momentum()) {
            (false, false) => elements.each(
                #[inline(always)]
                move |param, grad, [square_avg]| {
                    let plain = |square_avg, _| square_avg;
                    let bare = |direction| step.lr * direction;
                    let (new_param, new_square_avg) = rmsprop(param, grad, square_avg, hyper, &step, plain, bare);
                    (new_param, [new_square_avg])
                },
            ),
            (false, true) => elements.each(
                #[inline(always)]
                move |param, grad, [square_avg, mut momentum_buffer]| {
                    let plain = |square_avg, _| square_avg;
                    let momentum = |direction| momentum(&mut momentum_buffer, direction, hyper, &step);
                    let (new_param, new_square_avg) = rmsprop(param, grad, square_avg, hyper, &step, plain, momentum);
                    (new_param, [new_square_avg, momentum_buffer])
                },
            ),
            (true, false) => elements.each(
                #[inline(always)]
                move |param, grad, [square_avg, mut grad_avg]| {
                    let centered = |square_avg, grad| centered(&mut grad_avg, square_avg, grad, hyper);
                    let bare = |direction| step.lr * direction;
                    let (new_param, new_square_avg) = rmsprop(param, grad, square_avg, hyper, &step, centered, bare);
                    (new_param, [new_square_avg, grad_avg])
                },
            ),
            (true, true) => elements.each(
                #[inline(always)]
                move |param, grad, [square_avg, mut grad_avg, mut momentum_buffer]| {
                    let centered = |square_avg, grad| centered(&mut grad_avg, square_avg, grad, hyper);
                    let momentum = |direction| momentum(&mut momentum_buffer, direction, hyper, &step);
                    let (new_param, new_square_avg) =
                        rmsprop(param, grad, square_avg, hyper, &step, centered, momentum);
                    (new_param, [new_square_avg, grad_avg, momentum_buffer])
                },
            ),
        }
    }
}

struct Hyper {
    alpha: f32,
    one_minus_alpha: f32,
    eps: f32,
    momentum: f32,
    eps_in_root: bool,
    lr_in_buffer: bool,
}

/// Twin of `rule` in `shaders/rule/rmsprop.wgsl`.
#[inline(always)]
fn rmsprop(
    param: f32,
    grad: f32,
    square_avg: f32,
    hyper: &Hyper,
    step: &Step,
    second_moment: impl FnOnce(f32, f32) -> f32,
    change: impl FnOnce(f32) -> f32,
) -> (f32, f32) {
    let decayed = grad + step.weight_decay * param;
    let new_square_avg = hyper.alpha * square_avg + hyper.one_minus_alpha * (decayed * decayed);
    let moment = second_moment(new_square_avg, decayed);
    let mut avg = moment.sqrt() + hyper.eps;
    if hyper.eps_in_root {
        avg = (moment + hyper.eps).sqrt();
    }
    (param - change(decayed / avg), new_square_avg)
}

/// Twin of `second_moment` in `shaders/rule/rmsprop/centered.wgsl`.
#[inline(always)]
fn centered(grad_avg: &mut f32, square_avg: f32, grad: f32, hyper: &Hyper) -> f32 {
    *grad_avg = hyper.alpha * *grad_avg + hyper.one_minus_alpha * grad;
    let variance = square_avg - *grad_avg * *grad_avg;
    if variance < 0.0 { 0.0 } else { variance }
}

/// Twin of `change` in `shaders/rule/rmsprop/momentum.wgsl`.
#[inline(always)]
fn momentum(momentum_buffer: &mut f32, direction: f32, hyper: &Hyper, step: &Step) -> f32 {
    if hyper.lr_in_buffer {
        *momentum_buffer = hyper.momentum * *momentum_buffer + step.lr * direction;
        return *momentum_buffer;
    }
    *momentum_buffer = hyper.momentum * *momentum_buffer + direction;
    step.lr * *momentum_buffer
}
