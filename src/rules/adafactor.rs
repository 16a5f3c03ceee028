use std::borrow::Cow;

use super::declare::{common_spec, rule};
use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Factored, Reduction, Rule, RuleSpec, ScalarState, StepScalars, Terms, check_rate, lerp};

rule! {
    /// Adafactor (Shazeer & Stern 2018, arXiv 1804.04235), as `torch.optim.Adafactor`: steps relative to the RMS of the
    /// tensor. One factor per row and per column stands for the running averages of a matrix's squared gradients.
    ///
    /// - `1 - β₂ = t^beta2_decay`; `ρ = min(lr, 1/√t)`; `α = max(eps.1, RMS(param))·ρ`.
    /// - Tensors of two dimensions or more, by the last two: `row_var = β₂·row_var + (1 - β₂)·mean(grad²)` over each
    ///   row, `col_var` likewise over each column; `variance = row_var·col_var/max(mean(row_var), eps.0)`.
    /// - Vectors and scalars: `variance = β₂·variance + (1 - β₂)·grad²`.
    /// - `update = grad/max(√variance, eps.0)`; `param *= 1 - lr·weight_decay`;
    ///   `param -= α/max(1, RMS(update)/d)·update`.
    ///
    /// Requires the shapes of tensors: see [`Layout`](crate::Layout). Frozen elements of a partly frozen tensor count
    /// as gradients of 0 in rows and columns. They do not count in the RMS.
    ///
    /// Squares are plain f32, as in PyTorch. Gradients above 1.8e19 leave infinities in the factors; so do rows of n
    /// gradients above 1.8e19/√n.
    ///
    /// State: 4 bytes per row and column (`row_var`, `col_var`); of vectors 4 bytes per element (`variance`). Scratch
    /// on the device: 4 bytes per matrix, and 4 per 64 elements, rounded up, of each row and column; of vectors 4 per
    /// element. One binding holds all of it. Dispatches: eight, four of them per chunk.
    Adafactor = "adafactor" from "torch.optim" {
        /// Learning rate of the decay, and maximum step relative to the RMS of the parameters; default 1e-2.
        lr: f64 = 1e-2, with_lr;
        /// Power of t in 1 - β₂, from -2 to 0; default -0.8.
        beta2_decay: f64 = -0.8, with_beta2_decay;
        /// First: minimum of the variance's root and of the mean over rows, greater than 0; default none, the machine
        /// epsilon of f32. Second: minimum RMS of the parameters; default 1e-3.
        eps: (Option<f64>, f64) = (None, 1e-3), with_eps;
        /// Maximum RMS of an update that is not scaled down, 1 or greater; default 1.
        d: f64 = 1.0, with_d;
        /// Decoupled weight decay; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Add `eps.0` to the squared gradients, as the paper and optax do. The minimum of root and mean is then the
        /// smallest normal f32; default false.
        eps_in_squares: bool = false, with_eps_in_squares;
        /// `ρ = lr` at every step, as in optax; default false.
        constant_rho: bool = false, with_constant_rho;
        /// `param *= 1 - weight_decay`, as in optax; default false.
        decay_without_lr: bool = false, with_decay_without_lr;
        /// Minimum of both of the last two dimensions of a factored tensor, as in optax. Others have a `variance` per
        /// element; default 0.
        min_dim_size_to_factor: usize = 0, with_min_dim_size_to_factor;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {
        optax: "eps, 1e-30, in the squares; `ρ = lr`; decay without the learning rate; \
                no factors below 128 rows or columns",
    }
    variants { Self::optax() }
}

impl Adafactor {
    /// `torch.optim.Adafactor`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adafactor`: `eps.0`, 1e-30, in the squares; `ρ = lr`; weight decay without the learning rate; factors
    /// from 128 rows and columns. optax factors the two largest dimensions, this the last two. optax has no default
    /// learning rate; this keeps the default.
    pub fn optax() -> Self {
        Self {
            eps: (Some(1e-30), 1e-3),
            eps_in_squares: true,
            constant_rho: true,
            decay_without_lr: true,
            min_dim_size_to_factor: 128,
            ..Self::default()
        }
    }

    fn eps1(&self) -> f32 {
        self.eps.0.unwrap_or(f32::EPSILON.into()) as f32
    }

    fn eps_of_squares(&self) -> f32 {
        if self.eps_in_squares { self.eps1() } else { 0.0 }
    }

    fn least_root(&self) -> f32 {
        if self.eps_in_squares { f32::MIN_POSITIVE } else { self.eps1() }
    }

    fn power(&self, base: f64) -> f32 {
        base.powf(self.beta2_decay) as f32
    }

    /// `direction` of the WGSL.
    #[inline(always)]
    fn direction(&self, grad: f32, variance: f32) -> f32 {
        let root = variance.sqrt();
        grad / if root < self.least_root() { self.least_root() } else { root }
    }
}

impl Rule for Adafactor {
    fn spec(&self) -> RuleSpec {
        common_spec!(self)
            .with_hyperparameters([
                ("beta2_decay", self.beta2_decay as f32),
                ("power_of_lower", self.power(1.25)),
                ("power_of_upper", self.power(1.75)),
                ("power_of_2_1", self.power(2.0)),
                ("power_of_2_2", self.power(4.0)),
                ("power_of_2_4", self.power(16.0)),
                ("power_of_2_8", self.power(256.0)),
                ("power_of_2_16", self.power(65_536.0)),
                ("eps_of_squares", self.eps_of_squares()),
                ("least_root", self.least_root()),
                ("eps2", self.eps.1 as f32),
                ("d", self.d as f32),
            ])
            .with_flags([("constant_rho", self.constant_rho), ("decay_without_lr", self.decay_without_lr)])
    }
    fn validate(&self) -> Result<(), Error> {
        let name = "adafactor";
        let power = self.beta2_decay;
        check((-2.0..=0.0).contains(&power), name, "beta2_decay", power, "-2 to 0")?;
        let eps1 = self.eps.0.unwrap_or(1.0);
        let normal = eps1 > 0.0 && (eps1 as f32).is_normal();
        check(normal, name, "eps.0", eps1, "greater than 0, normal in f32")?;
        check_rate(name, "eps.1", self.eps.1)?;
        check(self.d >= 1.0 && (self.d as f32).is_finite(), name, "d", self.d, "1 or greater, finite")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/adafactor.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let rule = self.clone();
        let ([param_sq, update_sq, count, _], [_, greatest_rho, ..]) = (step.sums, step.scalar_state);
        let rho = if self.constant_rho { step.lr } else { step.lr.min(greatest_rho) };
        let param_rms = (param_sq / count).sqrt();
        let eps2 = self.eps.1 as f32;
        let alpha = if param_rms < eps2 { eps2 } else { param_rms } * rho;
        let excess = (update_sq / count).sqrt() / self.d as f32;
        let denom = if excess < 1.0 { 1.0 } else { excess };
        let decay = if self.decay_without_lr { step.weight_decay } else { step.lr * step.weight_decay };
        elements.each(
            #[inline(always)]
            move |param, grad, [variance]| {
                let decayed = param - decay * param;
                (decayed - (alpha / denom) * rule.direction(grad, variance), [variance])
            },
        );
    }
    fn scalar_state(&self) -> Option<&dyn ScalarState> {
        Some(self)
    }
    fn reduction(&self) -> Option<&dyn Reduction> {
        Some(self)
    }
    fn factored(&self) -> Option<&dyn Factored> {
        Some(self)
    }
}

impl ScalarState for Adafactor {
    fn initial_scalars(&self) -> Vec<(&'static str, f32)> {
        vec![("one_minus_beta2", 1.0), ("greatest_rho", 1.0)]
    }
    fn update_scalars(&self, scalars: &mut [f32; 4], _: f32, _: [f32; 4], t: u32) {
        let bits = (t as f32).to_bits();
        let mantissa = f32::from_bits((bits & 0x7f_ffff) | 0x3f80_0000);
        let exponent = (bits >> 23).wrapping_sub(127);
        let upper = mantissa >= 1.5;
        let center = if upper { 1.75 } else { 1.25 };
        let distance = (mantissa - center) / center;
        let mut series = 1.0;
        for i in (1..=12).rev() {
            series = 1.0 + (self.beta2_decay as f32 - (i - 1) as f32) / i as f32 * distance * series;
        }
        let mut power = series * self.power(center.into());
        for bit in 0..5 {
            if (exponent >> bit) & 1 != 0 {
                power *= self.power(2f64.powi(1 << bit));
            }
        }
        scalars[0] = power;
        scalars[1] = 1.0 / (t as f32).sqrt();
    }
}

impl Reduction for Adafactor {
    fn sums(&self) -> Vec<&'static str> {
        vec!["param_sq", "update_sq", "count"]
    }
    fn terms(&self, elements: Terms<'_>, _: &StepScalars) {
        let rule = self.clone();
        elements.each(
            #[inline(always)]
            move |param, grad, [variance]| {
                let update = rule.direction(grad, variance);
                [param * param, update * update, 1.0]
            },
        );
    }
}

impl Factored for Adafactor {
    fn factors_matrix(&self, rows: usize, columns: usize) -> bool {
        rows.min(columns) >= self.min_dim_size_to_factor
    }
    fn update_factor(&self, old: f32, mean_sq: f32, scalar_state: [f32; 4], _: u32) -> f32 {
        let [one_minus_beta2, ..] = scalar_state;
        lerp(old, mean_sq + self.eps_of_squares(), 1.0 - one_minus_beta2, one_minus_beta2)
    }
    fn floor_mean(&self, mean: f32) -> f32 {
        if mean < self.least_root() { self.least_root() } else { mean }
    }
}
