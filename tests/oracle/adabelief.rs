use super::{Oracle, Real, Rounded, StepScalars};

/// AdaBelief (arXiv 2010.07468, algorithm 2) with optax's two epsilons.
pub struct AdaBeliefOracle {
    pub betas: (f64, f64),
    pub eps: f64,
    pub eps_root: f64,
}

impl AdaBeliefOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2) = self.betas;
        let lr = N::lr(step.lr);
        // grad - β₁m - (1 - β₁)grad, without a cancellation that the crate need not have.
        let surprise = N::constant(beta1) * (grad - state[0]);
        state[0] = N::average(beta1, state[0], grad);
        state[1] = N::average(beta2, state[1], surprise * surprise) + N::constant(self.eps_root);
        let corrected = state[0] / N::bias_correction(beta1, step.t);
        let spread = state[1].sqrt() / N::bias_correction(beta2, step.t).sqrt();
        let update = corrected / (spread + N::constant(self.eps));
        param * (N::constant(1.0) - lr * N::constant(step.weight_decay)) - lr * update
    }
}

oracle!(AdaBeliefOracle, self => vec!["exp_avg", "exp_avg_var"]);
