use super::{Oracle, Real, Rounded, StepScalars};

/// LARS (arXiv 1708.03888, algorithm 1) as `torch_optimizer.LARS` computes it, or as `optax.lars` does.
pub struct LarsOracle {
    pub momentum: f64,
    pub dampening: f64,
    pub nesterov: bool,
    pub trust_coefficient: f64,
    pub eps: f64,
    pub optax: bool,
}

impl LarsOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let weight_decay = N::constant(step.weight_decay);
        let (param_norm, grad_norm) = (N::measured(step.measured[0]).sqrt(), N::measured(step.measured[1]).sqrt());
        let vanishes = step.measured[0].value == 0.0 || step.measured[1].value == 0.0;
        let (trust_coefficient, eps) = (N::constant(self.trust_coefficient), N::constant(self.eps));
        let (lr, momentum) = (N::lr(step.lr), N::constant(self.momentum));
        let scaled = match (self.optax, vanishes) {
            (true, true) => grad + weight_decay * param,
            (true, false) => trust_coefficient * param_norm / (grad_norm + eps) * (grad + weight_decay * param),
            (false, _) if vanishes || step.weight_decay == 0.0 => grad,
            (false, _) => {
                let local_lr = trust_coefficient * (param_norm / (grad_norm + weight_decay * param_norm + eps));
                local_lr * (grad + weight_decay * param)
            }
        };
        let [buffer] = state else { return param - lr * scaled };
        if self.optax {
            let update = lr * scaled;
            *buffer = momentum * *buffer + update;
            return param - if self.nesterov { update + momentum * *buffer } else { *buffer };
        }
        *buffer = match step.t {
            1 => scaled,
            _ => momentum * *buffer + N::constant(1.0 - self.dampening) * scaled,
        };
        param - lr * if self.nesterov { scaled + momentum * *buffer } else { *buffer }
    }
}

impl Oracle for LarsOracle {
    fn state_names(&self) -> Vec<&'static str> {
        if self.momentum == 0.0 { vec![] } else { vec!["momentum_buffer"] }
    }

    fn update(&self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64 {
        self.equations(step, param, grad, state)
    }

    fn update_rounded(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &mut [Rounded]) -> Rounded {
        self.equations(step, param, grad, state)
    }

    fn measure(&self, step: &StepScalars, param: Rounded, grad: Rounded, _: &[Rounded]) -> Vec<Rounded> {
        let grad = if self.optax { grad + Rounded::constant(step.weight_decay) * param } else { grad };
        vec![param * param, grad * grad]
    }
}
