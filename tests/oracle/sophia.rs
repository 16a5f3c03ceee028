use super::{Oracle, Real, Rounded, StepScalars};

/// Sophia (arXiv 2305.14342): G as in the authors' `SophiaG`, H as in `optax.contrib.sophia`.
pub struct SophiaOracle {
    pub betas: (f64, f64),
    pub curvature: Curvature,
}

#[derive(Clone, Copy)]
pub enum Curvature {
    G { rho: f64, bs: f64 },
    H { gamma: f64, eps: f64 },
}

impl SophiaOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, lr, one) = (self.betas.0, N::lr(step.lr), N::constant(1.0));
        state[0] = N::constant(beta1) * state[0] + N::constant(1.0 - beta1) * grad;
        let (momentum, denom) = match self.curvature {
            Curvature::G { rho, bs } => (state[0], N::constant(rho * bs) * state[1] + N::constant(1e-15)),
            Curvature::H { gamma, eps } => {
                let corrected = state[0] / N::bias_correction(beta1, step.t);
                (corrected, (N::constant(gamma) * state[1]).max(N::constant(eps)))
            }
        };
        let clipped = (momentum / denom).clamp_to_one();
        param * (one - lr * N::constant(step.weight_decay)) - lr * clipped
    }

    fn hessian<N: Real>(&self, estimate: N, state: &mut [N]) {
        let beta2 = self.betas.1;
        let estimate = match self.curvature {
            Curvature::G { .. } => estimate * estimate,
            Curvature::H { .. } => estimate,
        };
        state[1] = N::constant(beta2) * state[1] + N::constant(1.0 - beta2) * estimate;
    }
}

impl Oracle for SophiaOracle {
    fn state_names(&self) -> Vec<&'static str> {
        vec!["exp_avg", "hessian"]
    }

    fn update(&self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64 {
        self.equations(step, param, grad, state)
    }

    fn update_rounded(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &mut [Rounded]) -> Rounded {
        self.equations(step, param, grad, state)
    }

    fn update_hessian(&self, estimate: f64, state: &mut [f64]) {
        self.hessian(estimate, state);
    }

    fn update_hessian_rounded(&self, estimate: Rounded, state: &mut [Rounded]) {
        self.hessian(estimate, state);
    }
}
