use super::{Oracle, Real, Rounded, StepScalars};

/// Yogi (Zaheer et al. 2018, algorithm 2) with optax's bias corrections and initial values.
pub struct YogiOracle {
    pub betas: (f64, f64),
    pub eps: f64,
    pub initial_accumulator_value: f64,
}

impl YogiOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2) = self.betas;
        let lr = N::lr(step.lr);
        state[0] = N::average(beta1, state[0], grad);
        let square = grad * grad;
        state[1] = state[1] - N::constant(1.0 - beta2) * (state[1] - square).sign() * square;
        let corrected = state[0] / N::bias_correction(beta1, step.t);
        let denom = state[1].sqrt() / N::bias_correction(beta2, step.t).sqrt() + N::constant(self.eps);
        param * (N::constant(1.0) - lr * N::constant(step.weight_decay)) - lr * corrected / denom
    }
}

oracle!(YogiOracle, self => vec!["exp_avg", "exp_avg_sq"], self.initial_accumulator_value);
