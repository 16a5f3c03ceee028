use std::borrow::Cow;

use super::declare::{common_spec, cycles_momentum, rule};
use crate::Error;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, check_rate, check_weight};

rule! {
    /// RMSprop (Tieleman & Hinton 2012, lecture 6.5 of their course), as `torch.optim.RMSprop`.
    ///
    /// `grad += weight_decay·param`; `square_avg = alpha·square_avg + (1 - alpha)·grad²`;
    /// `param -= lr·grad / (√square_avg + eps)`. If centered (Graves 2013, arXiv 1308.0850), the root is
    /// `√max(square_avg - grad_avg², 0)`. PyTorch and burn omit the maximum, and there rounding can produce NaN. With
    /// momentum: `buf = momentum·buf + grad/…`; `param -= lr·buf`.
    ///
    /// State: 4 bytes per parameter (`square_avg`), 4 more centered (`grad_avg`), 4 more with momentum
    /// (`momentum_buffer`).
    RmsProp = "rmsprop" from "torch.optim" {
        /// Learning rate; default 1e-2.
        lr: f64 = 1e-2, with_lr;
        /// β of the running averages, 0 to 1; default 0.99.
        alpha: f64 = 0.99, with_alpha;
        /// Added to the denominator; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// L2 weight decay, added to the gradient; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Momentum, 0 ≤ μ; default 0.
        momentum: f64 = 0.0, with_momentum;
        /// Divide by the standard deviation of the gradient instead of its root mean square; default false.
        centered: bool = false, with_centered;
        /// Divide by `√(square_avg + eps)`, as optax, Keras and TensorFlow do; default false.
        eps_in_root: bool = false, with_eps_in_root;
        /// With momentum, `buf = momentum·buf + lr·grad/…` and `param -= buf`, as optax, Keras and TensorFlow do: a new
        /// learning rate does not scale earlier gradients; default false.
        lr_in_buffer: bool = false, with_lr_in_buffer;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {
        optax: "eps inside the root; learning rate in the momentum buffer; alpha 0.9",
        keras: "eps inside the root, 1e-7; learning rate in the momentum buffer; alpha 0.9; lr 1e-3",
        burn: "momentum 0.9; eps 1e-5",
    }
    variants {
        Self::default().with_centered(true),
        Self::default().with_momentum(0.9),
        Self::optax().with_centered(true).with_momentum(0.9),
    }
}

impl RmsProp {
    /// `optax.rmsprop`: alpha 0.9, eps inside the root, and the learning rate in the momentum buffer. optax's buffer
    /// has the opposite sign. optax has no default learning rate; this keeps the default.
    pub fn optax() -> Self {
        Self { alpha: 0.9, eps_in_root: true, lr_in_buffer: true, ..Self::default() }
    }

    /// `keras.optimizers.RMSprop`: as optax, with learning rate 1e-3 and eps 1e-7. Weight decay is decoupled in Keras,
    /// L2 here.
    pub fn keras() -> Self {
        Self { lr: 1e-3, eps: 1e-7, ..Self::optax() }
    }

    /// `burn::optim::RmsPropConfig`: momentum 0.9, eps 1e-5. burn has no default learning rate; this keeps the default.
    pub fn burn() -> Self {
        Self { momentum: 0.9, eps: 1e-5, ..Self::default() }
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
    cycles_momentum!(momentum);

    fn spec(&self) -> RuleSpec {
        let Hyper { alpha, one_minus_alpha, eps, momentum, .. } = self.hyper();
        common_spec!(self)
            .with_states([
                // Rounding might take the variance below 0.
                if self.centered { StateSpec::new("square_avg") } else { StateSpec::second_moment("square_avg") },
                StateSpec::new("grad_avg").only_if(self.centered),
                StateSpec::first_moment("momentum_buffer").only_if(self.has_momentum()),
            ])
            .with_hyperparameters([
                ("alpha", alpha),
                ("one_minus_alpha", one_minus_alpha),
                ("eps", eps),
                ("momentum", momentum),
            ])
            .with_flags([
                ("centered", self.centered),
                ("eps_in_root", self.eps_in_root),
                ("has_momentum", self.has_momentum()),
                ("lr_in_buffer", self.lr_in_buffer),
            ])
    }
    fn validate(&self) -> Result<(), Error> {
        check_weight("rmsprop", "alpha", self.alpha)?;
        check_rate("rmsprop", "eps", self.eps)?;
        check_rate("rmsprop", "momentum", self.momentum)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/rmsprop.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        let hyper = &self.hyper();
        match (self.centered, self.has_momentum()) {
            (false, false) => elements.each(
                #[inline(always)]
                move |param, grad, [square_avg]| {
                    let plain = |square_avg, _| square_avg;
                    let without_momentum = |direction| step.lr * direction;
                    let (new_param, new_square_avg) =
                        rmsprop(param, grad, square_avg, hyper, &step, plain, without_momentum);
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
                    let without_momentum = |direction| step.lr * direction;
                    let (new_param, new_square_avg) =
                        rmsprop(param, grad, square_avg, hyper, &step, centered, without_momentum);
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

/// `rule` of the WGSL.
#[inline(always)]
fn rmsprop(
    param: f32,
    grad: f32,
    square_avg: f32,
    hyper: &Hyper,
    step: &StepScalars,
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

/// The second moment if `centered`, as in the WGSL.
#[inline(always)]
fn centered(grad_avg: &mut f32, square_avg: f32, grad: f32, hyper: &Hyper) -> f32 {
    *grad_avg = hyper.alpha * *grad_avg + hyper.one_minus_alpha * grad;
    let variance = square_avg - *grad_avg * *grad_avg;
    if variance < 0.0 { 0.0 } else { variance }
}

/// The change if `has_momentum`, as in the WGSL.
#[inline(always)]
fn momentum(momentum_buffer: &mut f32, direction: f32, hyper: &Hyper, step: &StepScalars) -> f32 {
    if hyper.lr_in_buffer {
        *momentum_buffer = hyper.momentum * *momentum_buffer + step.lr * direction;
        return *momentum_buffer;
    }
    *momentum_buffer = hyper.momentum * *momentum_buffer + direction;
    step.lr * *momentum_buffer
}
