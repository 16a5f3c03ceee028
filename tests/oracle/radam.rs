use super::{Oracle, Real, Rounded, StepScalars};

/// RAdam (arXiv 1908.03265) as `torch.optim.RAdam`.
pub struct RAdamOracle {
    pub betas: (f64, f64),
    pub eps: f64,
    pub decoupled: bool,
    /// As `optax.radam`: added to the corrected second moment, under the root, whose eps is not multiplied by any correction.
    pub corrected_eps_root: Option<f64>,
}

impl RAdamOracle {
    /// The rectification of step t, or none, and how many ULP a device may be off.
    ///
    /// ρ is good to 4 ULP while x = -t ln β₂ ≤ 2, and to 9 then (`RAdam`'s documentation). The square root halves
    /// the derivative ρ/(ρ-4) + ρ/(ρ-2) - 1 of ln r² by ln ρ. The rectification's own operations are two differences,
    /// two products, a division and a constant, 5 ULP and halved, and a square root of 4.5.
    fn rectification(&self, t: u64) -> Option<(f64, f64)> {
        let (beta2, t) = (self.betas.1, t as f64);
        let rho_inf = 2.0 / (1.0 - beta2) - 1.0;
        let power = beta2.powf(t);
        let rho = rho_inf - 2.0 * t * power / (1.0 - power);
        if rho <= 5.0 {
            return None;
        }
        let rect = (rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho);
        let rho_ulps = if -t * beta2.ln() <= 2.0 { 4.0 } else { 9.0 };
        let derivative = (rho / (rho - 4.0) + rho / (rho - 2.0) - 1.0) / 2.0;
        Some((rect.sqrt(), rho_ulps * derivative + 7.0))
    }

    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2) = self.betas;
        let (lr, weight_decay) = (N::lr(step.lr), N::constant(step.weight_decay));
        let (param, grad) = if self.decoupled {
            (param * (N::constant(1.0) - lr * weight_decay), grad)
        } else {
            (param, grad + weight_decay * param)
        };
        state[0] = N::average(beta1, state[0], grad);
        state[1] = N::average(beta2, state[1], grad * grad);
        let corrected = lr * (state[0] / N::bias_correction(beta1, step.t));
        let Some((rect, ulps)) = self.rectification(step.t) else { return param - corrected };
        let correction2 = N::bias_correction(beta2, step.t);
        let adaptive = match self.corrected_eps_root {
            Some(eps_root) => {
                let root = (state[1] / correction2 + N::constant(eps_root)).sqrt();
                N::constant(1.0) / (root + N::constant(self.eps))
            }
            None => correction2.sqrt() / (state[1].sqrt() + N::constant(self.eps)),
        };
        param - corrected * adaptive * N::of_step(rect, ulps)
    }
}

oracle!(RAdamOracle, self => vec!["exp_avg", "exp_avg_sq"]);
