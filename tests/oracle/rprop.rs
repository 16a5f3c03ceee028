//! Rprop (Riedmiller and Braun, ICNN 1993) as `torch.optim.Rprop` documents it: without weight backtracking.

use super::{Oracle, Real, Rounded, StepScalars};

pub struct RpropOracle {
    pub etas: (f64, f64),
    pub step_sizes: (f64, f64),
}

impl RpropOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let step_size = if step.t == 1 { N::lr(step.lr) } else { state[1] };
        let (eta, grad) = match (state[0].sign().value() * grad.sign().value()).partial_cmp(&0.0) {
            Some(std::cmp::Ordering::Greater) => (self.etas.1, grad),
            Some(std::cmp::Ordering::Less) => (self.etas.0, N::constant(0.0)),
            _ => (1.0, grad),
        };
        let (smallest, largest) = (N::constant(self.step_sizes.0), N::constant(self.step_sizes.1));
        state[0] = grad;
        state[1] = (step_size * N::constant(eta)).min(largest).max(smallest);
        param - grad.sign() * state[1]
    }
}

oracle!(RpropOracle, self => vec!["prev", "step_size"]);
