//! Adadelta (Zeiler, arXiv 1212.5701, algorithm 1) with the learning rate that `torch.optim.Adadelta` puts before it.

use super::{Oracle, Real, Rounded, StepScalars};

pub struct AdadeltaOracle {
    pub rho: f64,
    pub eps: f64,
}

impl AdadeltaOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let accumulate = |old, new: N| N::constant(self.rho) * old + N::constant(1.0 - self.rho) * (new * new);
        let root_mean_square = |mean_square: N| (mean_square + N::constant(self.eps)).sqrt();
        let grad = grad + N::constant(step.weight_decay) * param;
        state[0] = accumulate(state[0], grad);
        let change = root_mean_square(state[1]) / root_mean_square(state[0]) * grad;
        state[1] = accumulate(state[1], change);
        param - N::lr(step.lr) * change
    }
}

oracle!(AdadeltaOracle, self => vec!["square_avg", "acc_delta"]);
