//! Adamax (Kingma and Ba, arXiv 1412.6980, algorithm 2) with the eps and the weight decay of `torch.optim.Adamax`.

use super::{Oracle, Real, Rounded, StepScalars};

pub struct AdamaxOracle {
    pub betas: (f64, f64),
    pub eps: f64,
    /// As `optax.adamaxw`.
    pub decoupled: bool,
}

impl AdamaxOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2) = self.betas;
        let weight_decay = N::constant(step.weight_decay);
        let (param, grad) = if self.decoupled {
            (param * (N::constant(1.0) - N::lr(step.lr) * weight_decay), grad)
        } else {
            (param, grad + weight_decay * param)
        };
        state[0] = N::constant(beta1) * state[0] + N::constant(1.0 - beta1) * grad;
        let magnitude = grad.max(N::constant(0.0) - grad);
        state[1] = (N::constant(beta2) * state[1]).max(magnitude + N::constant(self.eps));
        param - N::lr(step.lr) / N::bias_correction(beta1, step.t) * state[0] / state[1]
    }
}

oracle!(AdamaxOracle, self => vec!["exp_avg", "exp_inf"]);
