use std::borrow::Cow;

use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Rule, Step, average, check_beta, check_rate, common_options, cycles, setters};

/// `RAdam` (Liu et al. 2020, arXiv 1908.03265), as `torch.optim.RAdam`: Adam once the second moment has seen enough
/// gradients to be trusted, and momentum alone until then.
///
/// With `ρ∞ = 2/(1 - β₂) - 1` and `ρ = ρ∞ - 2t·β₂ᵗ/(1 - β₂ᵗ)`: if `ρ > 5`,
/// `param -= lr/(1 - β₁ᵗ) · exp_avg · r·√(1 - β₂ᵗ)/(√exp_avg_sq + eps)` with
/// `r² = (ρ - 4)(ρ - 2)ρ∞ / ((ρ∞ - 4)(ρ∞ - 2)ρ)`; else `param -= lr/(1 - β₁ᵗ) · exp_avg`.
///
/// ρ comes from the device's t without cancellation: within 4 ULP while `-t·ln β₂ ≤ 2`, 9 ULP after that, by what
/// WGSL allows its operations. Optax ([`RAdam::optax`]) rectifies from `ρ ≥ 5` on, which no usual β₂ meets exactly.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct RAdam {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// β of the gradient's and of the squared gradient's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// Divide by `√(exp_avg_sq/(1 - β₂ᵗ) + eps_root) + eps`, as optax does, so that `eps` means the same at every step;
    /// default false.
    pub corrected_root: bool,
    /// Added inside the corrected root; default 0.
    pub eps_root: f64,
    /// Weight decay; default 0.
    pub weight_decay: f64,
    /// Whether weight decay scales the parameter as in `AdamW`, or else is added to the gradient; default false.
    pub decoupled_weight_decay: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for RAdam {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            corrected_root: false,
            eps_root: 0.0,
            weight_decay: 0.0,
            decoupled_weight_decay: false,
            maximize: false,
        }
    }
}

impl RAdam {
    /// `torch.optim.RAdam`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.radam`: the corrected root. optax has no default learning rate; this keeps PyTorch's.
    pub fn optax() -> Self {
        Self { corrected_root: true, ..Self::default() }
    }

    setters! {
        /// Sets [`RAdam::lr`].
        with_lr(lr: f64),
        /// Sets [`RAdam::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`RAdam::eps`].
        with_eps(eps: f64),
        /// Sets [`RAdam::corrected_root`].
        with_corrected_root(corrected_root: bool),
        /// Sets [`RAdam::eps_root`].
        with_eps_root(eps_root: f64),
        /// Sets [`RAdam::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`RAdam::decoupled_weight_decay`].
        with_decoupled_weight_decay(decoupled_weight_decay: bool),
        /// Sets [`RAdam::maximize`].
        with_maximize(maximize: bool),
    }

    fn hyper(&self) -> Hyper {
        let (beta1, beta2) = self.betas;
        // β₂ = 0 has no logarithm; at 100, as at infinity, βᵗ is nothing beside 1.
        let minus_ln_beta2 = -beta2.ln().max(-100.0);
        let rho_inf = 2.0 / (1.0 - beta2) - 1.0;
        Hyper {
            beta1: beta1 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            eps: self.eps as f32,
            eps_root: self.eps_root as f32,
            minus_ln_beta2: minus_ln_beta2 as f32,
            rho_inf: rho_inf as f32,
            rho_offset: (rho_inf - 2.0 / minus_ln_beta2) as f32,
            // ρ stays below ρ∞: up to 5 nothing is ever rectified.
            rect_scale: if rho_inf > 5.0 { (rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0))) as f32 } else { 0.0 },
        }
    }
}

struct Hyper {
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    eps_root: f32,
    minus_ln_beta2: f32,
    rho_inf: f32,
    rho_offset: f32,
    rect_scale: f32,
}

/// ρ. Twin of the function of the same name in `shaders/rule/radam.wgsl`.
///
/// With u = 2⁻²⁴, the series: x is good to 2u, `x·series` ≤ 0.32 to 8u of itself, so the bracket, at least 0.68, to
/// 5u, what the series leaves out included, and ρ to 8u. Beyond x = 2: 1 - βᵗ is good to 5u, `root` to
/// 5u(e^{x/2} - 1) + u of itself, the subtrahend to 10u(e^{x/2} - 1) + 14u. It is at most x/(eˣ - 1) of ρ∞, which is
/// worst at x = 2: 0.46 · 31.2u + 2.5u = 17u of ρ.
fn sma_length(hyper: &Hyper, step: &Step) -> f32 {
    let t = step.t as f32;
    let x = t * hyper.minus_ln_beta2;
    if x <= 2.0 {
        let x2 = x * x;
        // 9.6e-10 is 691 / 653837184000 less what the series leaves out at x = 2.
        let end = 1.0 / 23_950_080.0 - x2 * 9.6e-10;
        let middle = 1.0 / 15_120.0 - x2 * (1.0 / 604_800.0 - x2 * end);
        let series = 1.0 / 6.0 - x2 * (1.0 / 360.0 - x2 * middle);
        return hyper.rho_offset + t * (1.0 - x * series);
    }
    let root = 1.0 - step.bias_correction[2];
    hyper.rho_inf - 2.0 * t * (root * root / step.bias_correction[1])
}

impl Rule for RAdam {
    common_options!("radam");
    cycles!(betas.0);

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg", "exp_avg_sq"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        let hyper = self.hyper();
        vec![
            ("beta1", hyper.beta1),
            ("one_minus_beta1", hyper.one_minus_beta1),
            ("beta2", hyper.beta2),
            ("one_minus_beta2", hyper.one_minus_beta2),
            ("eps", hyper.eps),
            ("eps_root", hyper.eps_root),
            ("minus_ln_beta2", hyper.minus_ln_beta2),
            ("rho_inf", hyper.rho_inf),
            ("rho_offset", hyper.rho_offset),
            ("rect_scale", hyper.rect_scale),
        ]
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        let flag = |name, flag| (name, f64::from(u8::from(flag)));
        vec![flag("decoupled_weight_decay", self.decoupled_weight_decay), flag("corrected_root", self.corrected_root)]
    }
    /// The third is for √β₂ᵗ.
    fn bias_corrected(&self) -> Vec<f64> {
        vec![self.betas.0, self.betas.1, self.betas.1.sqrt()]
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)?;
        check_rate(self.name(), "eps", self.eps)?;
        check_rate(self.name(), "eps_root", self.eps_root)?;
        let possible = self.corrected_root || self.eps_root == 0.0;
        check(possible, self.name(), "eps_root", self.eps_root, "0 without corrected_root")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        concat!(include_str!("../../shaders/rules/radam.wgsl"), include_str!("../../shaders/rule/average.wgsl")).into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let (rule, step) = (self.clone(), *step);
        let hyper = rule.hyper();
        let rho = sma_length(&hyper, &step);
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_sq]| {
                let mut decay = 0.0;
                let mut decayed = grad;
                if rule.decoupled_weight_decay {
                    decay = (step.lr * step.weight_decay) * param;
                } else {
                    decayed = grad + step.weight_decay * param;
                }
                let new_exp_avg = average(exp_avg, decayed, hyper.beta1, hyper.one_minus_beta1);
                let new_exp_avg_sq = average(exp_avg_sq, decayed * decayed, hyper.beta2, hyper.one_minus_beta2);
                let mut step_size = step.lr / step.bias_correction[0];
                let mut direction = new_exp_avg;
                if rho > 5.0 {
                    let rect = hyper.rect_scale * ((rho - 4.0) * (rho - 2.0) / rho);
                    let (mut correction, mut moment) = (step.bias_correction[1], new_exp_avg_sq);
                    if rule.corrected_root {
                        moment = moment / correction + hyper.eps_root;
                        correction = 1.0;
                    }
                    step_size *= (rect * correction).sqrt();
                    direction = new_exp_avg / (moment.sqrt() + hyper.eps);
                }
                let new_param = param - (decay + step_size * direction);
                (new_param, [new_exp_avg, new_exp_avg_sq])
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::BiasPowers;

    /// ρ + 1 is twice the mean of 1, 2, … t weighted by 1, β₂, … β₂ᵗ⁻¹: nothing cancels.
    fn exact_lengths(beta2: f64) -> impl Iterator<Item = f64> {
        let (mut power, mut weights, mut sum) = (1.0, 0.0, 0.0);
        (1..).map(move |t| {
            weights += power;
            sum += power * f64::from(t);
            power *= beta2;
            2.0 * sum / weights - 1.0
        })
    }

    #[test]
    fn the_length_of_the_average_is_as_exact_as_promised() {
        for beta2 in [0.0, 0.5, 0.7, 0.85, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.999_999, 0.999_999_9] {
            let rule = RAdam::default().with_betas((0.9, beta2));
            let (hyper, powers) = (rule.hyper(), BiasPowers::new(&rule.bias_corrected()));
            for (t, exact) in (1..60_000).zip(exact_lengths(beta2)) {
                let bias_correction = powers.bias_correction(t);
                let zeros = [0.0; 4];
                let (lr, weight_decay, scalars, measured, tensor) = (0.0, 0.0, zeros, zeros, zeros);
                let step = Step { lr, weight_decay, bias_correction, t, scalars, measured, tensor };
                let got = sma_length(&hyper, &step);
                let promised = if f64::from(t) * -beta2.ln() <= 2.0 { 8.0 } else { 18.0 } / f64::from(1 << 24);
                assert!((f64::from(got) - exact).abs() <= promised * exact, "beta {beta2}, t {t}: {got} for {exact}");
                assert_eq!(got > 5.0, exact > 5.0, "beta {beta2}, t {t}: {got} for {exact}");
            }
        }
    }
}
