use super::{Oracle, Real, Rounded, StepScalars};

/// SignSGD and Signum (arXiv 1802.04434, algorithms 1 and 2). The sign of 0 is 0.
pub struct SignSgdOracle {
    pub momentum: f64,
}

impl SignSgdOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let lr = N::lr(step.lr);
        let mut direction = grad;
        if let [buffer] = state {
            *buffer = N::average(self.momentum, *buffer, grad);
            direction = *buffer;
        }
        param * (N::constant(1.0) - lr * N::constant(step.weight_decay)) - lr * direction.sign()
    }
}

oracle!(SignSgdOracle, self => if self.momentum == 0.0 { vec![] } else { vec!["momentum_buffer"] });
