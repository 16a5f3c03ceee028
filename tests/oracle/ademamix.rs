use super::{Oracle, Real, Rounded, StepScalars};

/// AdEMAMix (arXiv 2409.03137, algorithm 1 and section 3).
pub struct AdEMAMixOracle {
    pub betas: (f64, f64, f64),
    pub alpha: f64,
    pub t_alpha: Option<u32>,
    pub t_beta3: Option<u32>,
    pub eps: f64,
}

impl AdEMAMixOracle {
    fn slow_beta(&self, t: u64) -> f64 {
        let (start, end) = (self.betas.0.ln(), self.betas.2.ln());
        let share = self.t_beta3.map_or(1.0, |warmup| t as f64 / f64::from(warmup));
        if share >= 1.0 { self.betas.2 } else { (start * end / ((1.0 - share) * end + share * start)).exp() }
    }

    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2, _) = self.betas;
        let lr = N::lr(step.lr);
        let share = self.t_alpha.map_or(1.0, |warmup| step.t as f64 / f64::from(warmup));
        // The quotient and its product with t are rounded.
        let alpha = N::of_step(self.alpha * share.min(1.0), 1.0);
        let slow_beta = self.slow_beta(step.t);
        // `AdEMAMix`'s documentation.
        let weight = N::of_step(1.0 - slow_beta, 8.0);
        state[0] = N::average(beta1, state[0], grad);
        state[1] = if self.t_beta3.is_some() {
            (N::constant(1.0) - weight) * state[1] + weight * grad
        } else {
            N::average(slow_beta, state[1], grad)
        };
        state[2] = N::average(beta2, state[2], grad * grad);
        let fast = state[0] / N::bias_correction(beta1, step.t);
        let denom = state[2].sqrt() / N::bias_correction(beta2, step.t).sqrt() + N::constant(self.eps);
        let update = (fast + alpha * state[1]) / denom;
        param * (N::constant(1.0) - lr * N::constant(step.weight_decay)) - lr * update
    }
}

oracle!(AdEMAMixOracle, self => vec!["exp_avg", "exp_avg_slow", "exp_avg_sq"]);
