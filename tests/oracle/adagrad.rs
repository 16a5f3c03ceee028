//! Adagrad (Duchi, Hazan and Singer, Journal of Machine Learning Research 12, 2011) as `torch.optim.Adagrad` and, with
//! `eps_in_root`, `optax.adagrad` document it.

use super::{Oracle, Real, Rounded, StepScalars};

pub struct AdagradOracle {
    pub lr_decay: f64,
    pub initial_accumulator_value: f64,
    pub eps: f64,
    pub eps_in_root: bool,
}

impl AdagradOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let steps_before = N::constant((step.t - 1) as f64);
        let lr = N::lr(step.lr) / (N::constant(1.0) + N::constant(self.lr_decay) * steps_before);
        let gradient = grad + N::constant(step.weight_decay) * param;
        state[0] = state[0] + gradient * gradient;
        let eps = N::constant(self.eps);
        let root = if self.eps_in_root { (state[0] + eps).sqrt() } else { state[0].sqrt() + eps };
        param - lr * gradient / root
    }
}

oracle!(AdagradOracle, self => vec!["sum"], self.initial_accumulator_value);
