use super::{Oracle, Real, Rounded, StepScalars};

/// NovoGrad (arXiv 1905.11286, algorithm 1) as `torch_optimizer.NovoGrad` and `optax.novograd` compute it. The second state
/// is the tensor's, kept beside every element.
pub struct NovoGradOracle {
    pub betas: (f64, f64),
    pub eps: f64,
    pub grad_averaging: bool,
}

impl NovoGradOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2) = self.betas;
        let grad_sq = N::measured(step.measured[0]);
        state[1] = match step.t {
            1 => grad_sq,
            _ => N::average(beta2, state[1], grad_sq),
        };
        let normalized = grad / (state[1].sqrt() + N::constant(self.eps));
        let added = normalized + N::constant(step.weight_decay) * param;
        let added = if self.grad_averaging { N::constant(1.0 - beta1) * added } else { added };
        state[0] = N::constant(beta1) * state[0] + added;
        param - N::lr(step.lr) * state[0]
    }
}

impl Oracle for NovoGradOracle {
    fn state_names(&self) -> Vec<&'static str> {
        vec!["exp_avg"]
    }

    fn state_count(&self) -> usize {
        2
    }

    fn update(&self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64 {
        self.equations(step, param, grad, state)
    }

    fn update_rounded(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &mut [Rounded]) -> Rounded {
        self.equations(step, param, grad, state)
    }

    fn measure(&self, _: &StepScalars, _: Rounded, grad: Rounded, _: &[Rounded]) -> Vec<Rounded> {
        vec![grad * grad]
    }
}
