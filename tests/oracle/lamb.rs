use super::{Oracle, Real, Rounded, StepScalars};

/// LAMB (arXiv 1904.00962, algorithm 2) as apex's `FusedLAMB` computes it or, `always`, as `optax.lamb` does.
pub struct LambOracle {
    pub betas: (f64, f64),
    pub eps: f64,
    pub always: bool,
    pub ratio_range: Option<(f64, f64)>,
}

impl LambOracle {
    fn direction<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2) = self.betas;
        state[0] = N::average(beta1, state[0], grad);
        state[1] = N::average(beta2, state[1], grad * grad);
        let corrected = state[0] / N::bias_correction(beta1, step.t);
        let denom = state[1].sqrt() / N::bias_correction(beta2, step.t).sqrt() + N::constant(self.eps);
        corrected / denom + N::constant(step.weight_decay) * param
    }

    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let update = self.direction(step, param, grad, state);
        let lr = N::lr(step.lr);
        if step.measured.iter().any(|sum| sum.value == 0.0) || (step.weight_decay == 0.0 && !self.always) {
            return param - lr * update;
        }
        let [param_norm, update_norm] = [0, 1].map(|sum| N::measured(step.measured[sum]).sqrt());
        let ratio = param_norm / update_norm;
        let ratio = match self.ratio_range {
            Some((least, most)) => ratio.clamped(least, most),
            None => ratio,
        };
        param - lr * ratio * update
    }
}

impl Oracle for LambOracle {
    fn state_names(&self) -> Vec<&'static str> {
        vec!["exp_avg", "exp_avg_sq"]
    }

    fn update(&self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64 {
        self.equations(step, param, grad, state)
    }

    fn update_rounded(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &mut [Rounded]) -> Rounded {
        self.equations(step, param, grad, state)
    }

    fn measure(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &[Rounded]) -> Vec<Rounded> {
        let update = self.direction(step, param, grad, &mut state.to_vec());
        vec![param * param, update * update]
    }
}
