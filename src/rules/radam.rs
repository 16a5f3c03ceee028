use std::borrow::Cow;

use super::declare::{common_spec, cycles_momentum, rule};
use crate::Error;
use crate::error::check;
use crate::rule::{Elements, Rule, RuleSpec, StateSpec, StepScalars, check_beta, check_rate, lerp};

rule! {
    /// `RAdam` (Liu et al. 2020, arXiv 1908.03265), as `torch.optim.RAdam`: momentum alone until the second moment
    /// averages enough gradients, then Adam.
    ///
    /// With `ρ∞ = 2/(1 - β₂) - 1` and `ρ = ρ∞ - 2t·β₂ᵗ/(1 - β₂ᵗ)`: if `ρ > 5`,
    /// `param -= lr/(1 - β₁ᵗ) · exp_avg · r·√(1 - β₂ᵗ)/(√exp_avg_sq + eps)` with
    /// `r² = (ρ - 4)(ρ - 2)ρ∞ / ((ρ∞ - 4)(ρ∞ - 2)ρ)`; else `param -= lr/(1 - β₁ᵗ) · exp_avg`.
    ///
    /// ρ is computed from the device's t without cancellation. Its error is at most 4 ULP while `-t·ln β₂ ≤ 2` and 9
    /// ULP later, if operations are as exact as WGSL requires. optax ([`RAdam::optax`]) also rectifies at `ρ = 5`,
    /// which no usual β₂ gives exactly.
    ///
    /// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`).
    RAdam = "radam" from "torch.optim" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// β of the running averages of the gradient and of its square; default (0.9, 0.999).
        betas: (f64, f64) = (0.9, 0.999), with_betas;
        /// Added to the denominator; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Divide by `√(exp_avg_sq/(1 - β₂ᵗ) + eps_root) + eps`, as optax does: the effect of `eps` does not depend on
        /// the step; default false.
        corrected_root: bool = false, with_corrected_root;
        /// Added inside the corrected root; default 0.
        eps_root: f64 = 0.0, with_eps_root;
        /// Weight decay, added to the gradient (L2) unless decoupled; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Decoupled weight decay, as in [`AdamW`](crate::AdamW); default false.
        decoupled_weight_decay: bool = false, with_decoupled_weight_decay;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets { optax: "eps beside the root of `exp_avg_sq/(1 - β₂ᵗ)`, not of `exp_avg_sq`" }
    variants { Self::optax() }
}

impl RAdam {
    /// `torch.optim.RAdam`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.radam`: the corrected root. optax has no default learning rate; this keeps the default.
    pub fn optax() -> Self {
        Self { corrected_root: true, ..Self::default() }
    }

    fn hyper(&self) -> Hyper {
        let (beta1, beta2) = self.betas;
        // ln 0 is -∞. With -ln β₂ = 100, as with ∞, 1 - β₂ᵗ rounds to 1.
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
            // ρ < ρ∞: if ρ∞ ≤ 5, no step is rectified.
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

/// ρ: `sma_length` of the WGSL.
///
/// Bounds of the relative errors, with u = 2⁻²⁴:
/// - x ≤ 2, by the series: x 2u; `x·series`, at most 0.32, 8u; the bracket, at least 0.68, 5u with the omitted terms;
///   ρ 8u.
/// - x > 2: 1 - βᵗ 5u; `root` 5u(e^{x/2} - 1) + u; the subtrahend 10u(e^{x/2} - 1) + 14u. The subtrahend is at most
///   x/(eˣ - 1) of ρ∞. The worst case is x = 2, where the error of ρ is 0.46 · 31.2u + 2.5u = 17u.
fn sma_length(hyper: &Hyper, step: &StepScalars) -> f32 {
    let t = step.t as f32;
    let x = t * hyper.minus_ln_beta2;
    if x <= 2.0 {
        let x2 = x * x;
        // 9.6e-10: 691 / 653837184000, reduced by the omitted terms at x = 2.
        let end = 1.0 / 23_950_080.0 - x2 * 9.6e-10;
        let middle = 1.0 / 15_120.0 - x2 * (1.0 / 604_800.0 - x2 * end);
        let series = 1.0 / 6.0 - x2 * (1.0 / 360.0 - x2 * middle);
        return hyper.rho_offset + t * (1.0 - x * series);
    }
    let root = 1.0 - step.bias_correction[2];
    hyper.rho_inf - 2.0 * t * (root * root / step.bias_correction[1])
}

impl Rule for RAdam {
    cycles_momentum!(betas.0);

    fn spec(&self) -> RuleSpec {
        let hyper = self.hyper();
        common_spec!(self)
            .with_states([StateSpec::first_moment("exp_avg"), StateSpec::second_moment("exp_avg_sq")])
            .with_hyperparameters([
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
            ])
            .with_flags([
                ("decoupled_weight_decay", self.decoupled_weight_decay),
                ("corrected_root", self.corrected_root),
            ])
            // The third: `sma_length` reads √β₂ᵗ.
            .with_bias_corrected([self.betas.0, self.betas.1, self.betas.1.sqrt()])
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta("radam", "betas.0", self.betas.0)?;
        check_beta("radam", "betas.1", self.betas.1)?;
        check_rate("radam", "eps", self.eps)?;
        check_rate("radam", "eps_root", self.eps_root)?;
        let possible = self.corrected_root || self.eps_root == 0.0;
        check(possible, "radam", "eps_root", self.eps_root, "0 without corrected_root")
    }
    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/rules/radam.wgsl").into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
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
                let new_exp_avg = lerp(exp_avg, decayed, hyper.beta1, hyper.one_minus_beta1);
                let new_exp_avg_sq = lerp(exp_avg_sq, decayed * decayed, hyper.beta2, hyper.one_minus_beta2);
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
    use crate::kernels::bias_correction::BiasPowers;

    /// ρ + 1 is twice the mean of 1, …, t with weights 1, β₂, …, β₂ᵗ⁻¹. All terms are positive: nothing cancels.
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
            let (hyper, powers) = (rule.hyper(), BiasPowers::new(&rule.spec().bias_corrected));
            for (t, exact) in (1..60_000).zip(exact_lengths(beta2)) {
                let bias_correction = powers.bias_correction(t);
                let zeros = [0.0; 4];
                let (lr, weight_decay, scalar_state, sums, tensor_state) = (0.0, 0.0, zeros, zeros, zeros);
                let is_first = t == 1;
                let step = StepScalars { lr, weight_decay, bias_correction, t, is_first, scalar_state, sums, tensor_state };
                let got = sma_length(&hyper, &step);
                let bound = if f64::from(t) * -beta2.ln() <= 2.0 { 8.0 } else { 18.0 } / f64::from(1 << 24);
                assert!((f64::from(got) - exact).abs() <= bound * exact, "beta {beta2}, t {t}: {got} for {exact}");
                assert_eq!(got > 5.0, exact > 5.0, "beta {beta2}, t {t}: {got} for {exact}");
            }
        }
    }
}
