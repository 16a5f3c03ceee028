//! RMSprop (Hinton's lecture 6.5; centered: Graves, arXiv 1308.0850) as `torch.optim.RMSprop` and, with `eps_in_root`
//! and `lr_in_buffer`, `optax.rmsprop` document it. The variance is not let fall below 0.

use super::{Oracle, Real, Rounded, StepScalars};

pub struct RmsPropOracle {
    pub alpha: f64,
    pub eps: f64,
    pub momentum: f64,
    pub centered: bool,
    pub eps_in_root: bool,
    pub lr_in_buffer: bool,
}

impl RmsPropOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (lr, eps) = (N::lr(step.lr), N::constant(self.eps));
        let average = |old, new| N::constant(self.alpha) * old + N::constant(1.0 - self.alpha) * new;
        let grad = grad + N::constant(step.weight_decay) * param;
        state[0] = average(state[0], grad * grad);
        let mut square = state[0];
        if self.centered {
            state[1] = average(state[1], grad);
            square = (square - state[1] * state[1]).max(N::constant(0.0));
        }
        let denominator = if self.eps_in_root { (square + eps).sqrt() } else { square.sqrt() + eps };
        let normalized = grad / denominator;
        if self.momentum == 0.0 {
            return param - lr * normalized;
        }
        let buffer = state.last_mut().expect("the momentum buffer");
        let decayed = N::constant(self.momentum) * *buffer;
        if self.lr_in_buffer {
            *buffer = decayed + lr * normalized;
            param - *buffer
        } else {
            *buffer = decayed + normalized;
            param - lr * *buffer
        }
    }
}

oracle!(RmsPropOracle, self => {
    let mut names = vec!["square_avg"];
    names.extend(self.centered.then_some("grad_avg"));
    names.extend((self.momentum != 0.0).then_some("momentum_buffer"));
    names
});
