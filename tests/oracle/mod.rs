//! Independent oracles: the published equations of every rule, one element at a time, in f64.
//!
//! They are written from the papers and the frameworks' documentation and share nothing with the crate;
//! `tests/it/golden.rs` holds them against PyTorch, lion-pytorch and optax. Each equation is written once, over [`Real`]:
//! with `f64` it gives the exact value, with [`Rounded`] also how far an evaluation in f32 may be from it.

mod adafactor;
mod history;
mod lamb;
mod lars;
mod measured;
mod nadam;
mod novograd;
mod prodigy;
mod schedule_free;
mod sophia;
mod stable_adamw;

use std::ops::{Add, Div, Mul, Neg, Sub};

pub use adafactor::{AdafactorOracle, FACTORS, Factors};
pub use lamb::LambOracle;
pub use lars::LarsOracle;
pub use measured::measured;
pub use nadam::{NAdamOptions, NAdamOracle};
pub use novograd::NovoGradOracle;
pub use prodigy::ProdigyOracle;
pub use schedule_free::{Averaging, ScheduleFreeOracle};
pub use sophia::{Curvature, SophiaOracle};
pub use stable_adamw::StableAdamWOracle;

/// Values of a step that all elements share.
#[derive(Clone, Default)]
pub struct StepScalars {
    /// Applied steps, this one included: 1 in the first.
    pub t: u64,
    pub lr: f64,
    pub weight_decay: f64,
    /// Sums over the element's tensor, where the rule has any.
    pub measured: Vec<Rounded>,
}

pub trait Oracle {
    /// PyTorch's names, in the order of `update`'s `state`.
    fn state_names(&self) -> Vec<&'static str>;

    /// Initial value of every state.
    fn initial_state(&self) -> f64 {
        0.0
    }

    /// The new parameter. `grad` is unscaled, clipped, and negated where the rule maximizes.
    fn update(&self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64;

    /// The same with a bound on the error of f32 arithmetic.
    fn update_rounded(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &mut [Rounded]) -> Rounded;

    /// The element's terms in the sums over its tensor, where the rule has any.
    fn measure(&self, _step: &StepScalars, _param: Rounded, _grad: Rounded, _state: &[Rounded]) -> Vec<Rounded> {
        Vec::new()
    }

    /// Brings what the rule keeps of a tensor's rows and columns forward, where it does, and gives what that says of each
    /// element: the state that `measure` and `update` are given in front of any others. `grads` are 0 where frozen.
    fn settle_factors(&self, _t: u64, _shape: &[usize], _grads: &[Rounded], _factors: &mut Factors) -> Vec<Rounded> {
        Vec::new()
    }

    /// Whether the sums go over all tensors together.
    fn whole(&self) -> bool {
        false
    }

    /// Numbers per element in `state`: the states by name, then what the rule keeps of the element's tensor.
    fn state_count(&self) -> usize {
        self.state_names().len()
    }

    /// The largest term of the sums that make the new parameter, beside the old one and the change: where these may
    /// cancel, rounding is relative to them. `state` is the new one. Default: there are none.
    fn largest_term(&self, _step: &StepScalars, _param: f64, _grad: f64, _state: &[f64]) -> f64 {
        0.0
    }

    /// Error of the new parameter from rounded scalars that the device carries from step to step. `state` is the new
    /// one. Default: 0, for rules without such scalars.
    fn scalar_error(&self, _step: &StepScalars, _param: f64, _grad: f64, _state: &[f64]) -> f64 {
        0.0
    }

    /// The parameter to evaluate with, after at least one step. Default: that of training.
    fn eval(&self, param: Rounded, _state: &[Rounded]) -> Rounded {
        param
    }

    /// Takes an estimate of the Hessian's diagonal in, where the rule has one.
    fn update_hessian(&self, _estimate: f64, _state: &mut [f64]) {
        unreachable!("the rule has no Hessian");
    }

    /// The same with a bound on the error of f32 arithmetic.
    fn update_hessian_rounded(&self, _estimate: Rounded, _state: &mut [Rounded]) {
        unreachable!("the rule has no Hessian");
    }
}

/// `torch.optim.SGD`. Without momentum it has no state, and `dampening` and `nesterov` mean nothing.
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework")]
pub struct SgdOracle {
    pub momentum: f64,
    pub dampening: f64,
    pub nesterov: bool,
    /// `optax.ema`.
    pub dampen_first_step: bool,
    /// Keras.
    pub lr_in_buffer: bool,
    /// arXiv 2411.16085 without the rescaling.
    pub cautious: bool,
}

impl SgdOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (lr, momentum) = (N::lr(step.lr), N::constant(self.momentum));
        let grad = grad + N::constant(step.weight_decay) * param;
        let [buffer] = state else { return param - lr * grad };
        let decayed = grad;
        let grad = if self.lr_in_buffer { lr * grad } else { grad };
        *buffer = match step.t {
            1 if !self.dampen_first_step => grad,
            _ => momentum * *buffer + N::constant(1.0 - self.dampening) * grad,
        };
        let update = if self.nesterov { grad + momentum * *buffer } else { *buffer };
        let masked = self.cautious && !adam::agree(update, decayed);
        let update = if masked { N::constant(0.0) } else { update };
        if self.lr_in_buffer { param - update } else { param - lr * update }
    }
}

/// Lion (arXiv 2302.06675, algorithm 2). The sign of 0 is 0.
pub struct LionOracle {
    pub betas: (f64, f64),
    /// arXiv 2411.16085 without the rescaling.
    pub cautious: bool,
    /// arXiv 2510.12402.
    pub cautious_weight_decay: bool,
}

impl LionOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2) = self.betas;
        let lr = N::lr(step.lr);
        let direction = N::constant(beta1) * state[0] + N::constant(1.0 - beta1) * grad;
        state[0] = N::constant(beta2) * state[0] + N::constant(1.0 - beta2) * grad;
        let spared = self.cautious_weight_decay && adam::agree(N::constant(0.0) - direction, param);
        let decay = N::constant(if spared { 0.0 } else { step.weight_decay });
        let masked = self.cautious && !adam::agree(direction, grad);
        let sign = if masked { N::constant(0.0) } else { direction.sign() };
        param * (N::constant(1.0) - lr * decay) - lr * sign
    }
}

macro_rules! oracle {
    ($type:ty, $self:ident => $names:expr $(, $initial_state:expr)?) => {
        impl Oracle for $type {
            fn state_names(&$self) -> Vec<&'static str> {
                $names
            }

            $(fn initial_state(&$self) -> f64 {
                $initial_state
            })?

            fn update(&$self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64 {
                $self.equations(step, param, grad, state)
            }

            fn update_rounded(
                &$self,
                step: &StepScalars,
                param: Rounded,
                grad: Rounded,
                state: &mut [Rounded],
            ) -> Rounded {
                $self.equations(step, param, grad, state)
            }
        }
    };
}

oracle!(SgdOracle, self => if self.momentum == 0.0 { vec![] } else { vec!["momentum_buffer"] });
oracle!(LionOracle, self => vec!["exp_avg"]);

mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod rmsprop;
mod rprop;

pub use adadelta::AdadeltaOracle;
pub use adagrad::AdagradOracle;
pub use adam::{AdamOracle, Convention};
pub use adamax::AdamaxOracle;
pub use rmsprop::RmsPropOracle;
pub use rprop::RpropOracle;
mod adabelief;
mod adan;
mod ademamix;
mod radam;
mod signsgd;
mod yogi;
pub use adabelief::AdaBeliefOracle;
pub use adan::AdanOracle;
pub use ademamix::AdEMAMixOracle;
pub use radam::RAdamOracle;
pub use signsgd::SignSgdOracle;
pub use yogi::YogiOracle;

/// The Euclidean norm. Squares of f32 neither overflow nor vanish in f64.
pub fn global_norm(grads: &[f32]) -> f64 {
    grads.iter().map(|&grad| f64::from(grad).powi(2)).sum::<f64>().sqrt()
}

/// `torch.nn.utils.clip_grad_norm_`.
pub fn clip_coefficient(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// The arithmetic the equations need.
pub trait Real: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// A hyperparameter, or a number the host makes from one in f64: rounded to f32 once.
    fn constant(value: f64) -> Self;
    /// A number the device makes from t, good to so many ULP.
    fn of_step(value: f64, ulps: f64) -> Self;
    /// The learning rate: schedule, group's scale and their product are rounded.
    fn lr(value: f64) -> Self;
    /// `1 - betaᵗ`.
    fn bias_correction(beta: f64, t: u64) -> Self;
    /// `beta * old + (1 - beta) * value`, of which a beta of 0.5 and more takes no part in the rounding: the crate may
    /// add `(1 - beta) * (value - old)` to the old.
    fn average(beta: f64, old: Self, value: Self) -> Self {
        Self::constant(beta) * old + Self::constant(1.0 - beta) * value
    }
    /// A sum over a tensor.
    fn measured(sum: Rounded) -> Self;
    fn sqrt(self) -> Self;
    fn max(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn sign(self) -> Self;
    fn value(self) -> f64;
    /// Into -1..1.
    fn clamp_to_one(self) -> Self;
    /// Between two hyperparameters.
    fn clamped(self, least: f64, most: f64) -> Self;
}

impl Real for f64 {
    fn constant(value: f64) -> Self {
        value
    }

    fn of_step(value: f64, _ulps: f64) -> Self {
        value
    }

    fn lr(value: f64) -> Self {
        value
    }

    fn bias_correction(beta: f64, t: u64) -> Self {
        1.0 - beta.powf(t as f64)
    }

    fn measured(sum: Rounded) -> Self {
        sum.value
    }

    fn sqrt(self) -> Self {
        self.sqrt()
    }

    fn max(self, other: Self) -> Self {
        self.max(other)
    }

    fn min(self, other: Self) -> Self {
        self.min(other)
    }

    fn sign(self) -> Self {
        if self == 0.0 { 0.0 } else { self.signum() }
    }

    fn value(self) -> f64 {
        self
    }

    fn clamp_to_one(self) -> Self {
        self.clamp(-1.0, 1.0)
    }

    fn clamped(self, least: f64, most: f64) -> Self {
        self.clamp(least, most)
    }
}

/// Half an ULP of f32, relative to the number: what one correctly rounded operation may be off by.
pub const HALF_ULP: f64 = 1.0 / (1u64 << 24) as f64;
const SMALLEST_NORMAL: f64 = f32::MIN_POSITIVE as f64;

/// The exact value of an expression, and a bound on how far an f32 evaluation of it on a device may be from that
/// (Higham, Accuracy and Stability of Numerical Algorithms, 3.3: running error analysis).
///
/// Every operation carries the errors of its operands on and adds its own by the WGSL specification: half an ULP for
/// `+ - *`, 2.5 for `/`, 4.5 for `sqrt` (1 over `inverseSqrt`, itself at 2), and everything for a subnormal result,
/// which may be flushed to zero. Nothing in it is fitted to a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Rounded {
    pub value: f64,
    pub error: f64,
}

impl Rounded {
    /// An f32 in memory. Loading a subnormal may flush it.
    pub fn exact(value: f64) -> Self {
        Self { value, error: 0.0 }.with_ulps(0.0)
    }

    /// The same value with `ulps` more of error, and with the flush of what may be subnormal.
    pub fn with_ulps(self, ulps: f64) -> Self {
        let largest = self.value.abs() + self.error;
        let flushed = if self.value.abs() - self.error < SMALLEST_NORMAL { largest.min(SMALLEST_NORMAL) } else { 0.0 };
        Self { value: self.value, error: self.error + 2.0 * ulps * HALF_ULP * largest + flushed }
    }
}

impl Add for Rounded {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        if other.value == 0.0 && other.error == 0.0 {
            return self;
        }
        Self { value: self.value + other.value, error: self.error + other.error }.with_ulps(0.5)
    }
}

impl Neg for Rounded {
    type Output = Self;

    fn neg(self) -> Self {
        Self { value: -self.value, ..self }
    }
}

impl Sub for Rounded {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Rounded {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        if other.value == 1.0 && other.error == 0.0 {
            return self;
        }
        let error = self.value.abs() * other.error + other.value.abs() * self.error + self.error * other.error;
        Self { value: self.value * other.value, error }.with_ulps(0.5)
    }
}

impl Div for Rounded {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let smallest_divisor = other.value.abs() - other.error;
        assert!(smallest_divisor > 0.0, "the divisor {other:?} may be 0");
        let value = self.value / other.value;
        let error = (self.error + value.abs() * other.error) / smallest_divisor;
        Self { value, error }.with_ulps(2.5)
    }
}

impl Real for Rounded {
    fn constant(value: f64) -> Self {
        Self { value, error: (f64::from(value as f32) - value).abs() }
    }

    fn of_step(value: f64, ulps: f64) -> Self {
        Self { value, error: 0.0 }.with_ulps(ulps)
    }

    fn lr(value: f64) -> Self {
        Self { value, error: 0.0 }.with_ulps(1.5)
    }

    /// 2.5 ULP: a product of (βᵏ, 1-βᵏ) over the digits of t, as good as it gets without f64.
    fn bias_correction(beta: f64, t: u64) -> Self {
        Self { value: f64::bias_correction(beta, t), error: 0.0 }.with_ulps(2.5)
    }

    /// The errors of the operands shrink with the exact average. The roundings of the step from `old` add to them.
    fn average(beta: f64, old: Self, value: Self) -> Self {
        let weight = 1.0 - beta;
        if beta < 0.5 {
            return Self::constant(beta) * old + Self::constant(weight) * value;
        }
        let brought = beta * old.error + weight * value.error;
        let distance = Self::exact((value.value - old.value).abs() + old.error + value.error);
        let step = Self::constant(weight) * distance.with_ulps(0.5);
        Self { value: beta * old.value + weight * value.value, error: brought + step.error }.with_ulps(0.5)
    }

    fn measured(sum: Rounded) -> Self {
        sum
    }

    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        let error = self.error.sqrt().min(self.error / value.max(f64::MIN_POSITIVE));
        Self { value, error }.with_ulps(4.5)
    }

    fn max(self, other: Self) -> Self {
        let (small, large) = if self.value < other.value { (self, other) } else { (other, self) };
        if large.value - large.error >= small.value + small.error {
            return large;
        }
        let least = (small.value - small.error).max(large.value - large.error);
        let most = (small.value + small.error).max(large.value + large.error);
        Self { value: large.value, error: (most - large.value).max(large.value - least) }
    }

    fn min(self, other: Self) -> Self {
        let (small, large) = if self.value < other.value { (self, other) } else { (other, self) };
        if small.value + small.error <= large.value - large.error {
            return small;
        }
        Self { value: small.value, error: small.error.max(large.error) }
    }

    fn sign(self) -> Self {
        let certain = self.error < self.value.abs() || (self.value == 0.0 && self.error == 0.0);
        assert!(certain, "the sign of {self:?} hangs on a rounding: no device can be held to it");
        Self { value: self.value.sign(), error: 0.0 }
    }

    fn value(self) -> f64 {
        self.value
    }

    fn clamp_to_one(self) -> Self {
        // A value outside with certainty becomes ±1 without error. No error exceeds the whole interval.
        let outside = self.value.abs() - self.error >= 1.0;
        Self { value: self.value.clamp_to_one(), error: if outside { 0.0 } else { self.error.min(2.0) } }
    }

    fn clamped(self, least: f64, most: f64) -> Self {
        let error = self.error.max(Self::constant(least).error).max(Self::constant(most).error);
        Self { value: self.value.clamp(least, most), error }
    }
}
