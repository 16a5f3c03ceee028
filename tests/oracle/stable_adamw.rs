use super::{Oracle, Real, Rounded, StepScalars};

/// `StableAdamW` (arXiv 2304.13013) as optimi computes it. The root of max(v, eps²) is max(√v, eps).
pub struct StableAdamWOracle {
    pub betas: (f64, f64),
    pub eps: f64,
}

impl StableAdamWOracle {
    /// The root of the corrected second moment, which `state` stores without correction.
    fn root<N: Real>(&self, step: &StepScalars, grad: N, state: &mut [N]) -> N {
        let beta2 = self.betas.1;
        state[1] = N::average(beta2, state[1], grad * grad);
        state[1].sqrt() / N::bias_correction(beta2, step.t).sqrt()
    }

    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let beta1 = self.betas.0;
        let root = self.root(step, grad, state);
        state[0] = N::average(beta1, state[0], grad);
        let [ratio_sq, count] = [0, 1].map(|sum| N::measured(step.measured[sum]));
        let lr = N::lr(step.lr) / (ratio_sq / count).sqrt().max(N::constant(1.0));
        let decay = lr * N::constant(step.weight_decay) * param;
        param - (decay + lr / N::bias_correction(beta1, step.t) * (state[0] / (root + N::constant(self.eps))))
    }
}

impl Oracle for StableAdamWOracle {
    fn state_names(&self) -> Vec<&'static str> {
        vec!["exp_avg", "exp_avg_sq"]
    }

    fn update(&self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64 {
        self.equations(step, param, grad, state)
    }

    fn update_rounded(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &mut [Rounded]) -> Rounded {
        self.equations(step, param, grad, state)
    }

    fn measure(&self, step: &StepScalars, _: Rounded, grad: Rounded, state: &[Rounded]) -> Vec<Rounded> {
        let ratio = grad / self.root(step, grad, &mut state.to_vec()).max(Rounded::constant(self.eps));
        vec![ratio * ratio, Rounded::exact(1.0)]
    }
}
