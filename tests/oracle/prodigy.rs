use super::{Oracle, Real, Rounded, StepScalars};

/// Prodigy (arXiv 2306.06101, algorithm 4) as `prodigyopt.Prodigy` computes it. The last three states belong to all tensors
/// together and are kept beside every element: `d`, `d_max`, `d_numerator`.
pub struct ProdigyOracle {
    pub betas: (f64, f64),
    pub beta3: Option<f64>,
    pub eps: f64,
    pub decouple: bool,
    pub use_bias_correction: bool,
    pub safeguard_warmup: bool,
    pub d0: f64,
    pub d_coef: f64,
    pub growth_rate: Option<f64>,
}

/// The values before the estimate of d changes.
struct Accumulated<N> {
    d: N,
    dlr: N,
    grad: N,
    s: N,
    to_start: N,
    weight: N,
}

impl ProdigyOracle {
    fn beta3(&self) -> f64 {
        self.beta3.unwrap_or(self.betas.1.sqrt())
    }

    /// Fills the states that do not start at 0.
    fn begin<N: Real>(&self, step: &StepScalars, param: N, state: &mut [N]) {
        if step.t == 1 {
            state[3] = param;
            state[4] = N::constant(self.d0);
            state[5] = N::constant(self.d0);
        }
    }

    fn accumulate<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &[N]) -> Accumulated<N> {
        let (d, d0) = (state[4], N::constant(self.d0));
        let mut dlr = d * N::lr(step.lr);
        if self.use_bias_correction {
            let (beta1, beta2) = self.betas;
            dlr = dlr * (N::bias_correction(beta2, step.t).sqrt() / N::bias_correction(beta1, step.t));
        }
        let grad = if self.decouple { grad } else { grad + N::constant(step.weight_decay) * param };
        let weight = d / d0 * dlr;
        let weight_of_s = if self.safeguard_warmup { d / d0 * d } else { weight };
        let s = N::average(self.beta3(), state[2], N::constant(0.0)) + weight_of_s * grad;
        Accumulated { d, dlr, grad, s, to_start: state[3] - param, weight }
    }

    fn update_tensor_state<N: Real>(&self, step: &StepScalars, state: &mut [N]) {
        let (d, d_max) = (state[4], state[5]);
        let numerator = N::average(self.beta3(), state[6], N::constant(0.0)) + N::measured(step.measured[0]);
        let d_hat = N::constant(self.d_coef) * numerator / N::measured(step.measured[1]);
        let risen = if d.value() == self.d0 { d.max(d_hat) } else { d };
        state[5] = d_max.max(d_hat);
        state[4] = match self.growth_rate {
            Some(rate) => state[5].min(risen + risen * N::constant(rate - 1.0)),
            None => state[5],
        };
        state[6] = numerator;
    }

    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        self.begin(step, param, state);
        if step.lr == 0.0 {
            return param;
        }
        let Accumulated { d, dlr, grad, s, .. } = self.accumulate(step, param, grad, state);
        let scaled = d * grad;
        state[0] = N::average(self.betas.0, state[0], scaled);
        state[1] = N::average(self.betas.1, state[1], scaled * scaled);
        state[2] = s;
        if step.measured[1].value == 0.0 {
            return param;
        }
        self.update_tensor_state(step, state);
        let decay = if self.decouple { step.weight_decay } else { 0.0 };
        let decayed = if decay == 0.0 { param } else { param - dlr * N::constant(decay) * param };
        decayed - dlr * (state[0] / (state[1].sqrt() + state[4] * N::constant(self.eps)))
    }
}

impl Oracle for ProdigyOracle {
    fn state_names(&self) -> Vec<&'static str> {
        vec!["exp_avg", "exp_avg_sq", "s", "p0"]
    }

    fn state_count(&self) -> usize {
        7
    }

    fn whole(&self) -> bool {
        true
    }

    fn update(&self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64 {
        self.equations(step, param, grad, state)
    }

    fn update_rounded(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &mut [Rounded]) -> Rounded {
        self.equations(step, param, grad, state)
    }

    fn measure(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &[Rounded]) -> Vec<Rounded> {
        if step.lr == 0.0 {
            return vec![Rounded::exact(0.0); 2];
        }
        let mut state = state.to_vec();
        self.begin(step, param, &mut state);
        let Accumulated { grad, s, to_start, weight, .. } = self.accumulate(step, param, grad, &state);
        vec![weight * (grad * to_start), Rounded { value: s.value.abs(), error: s.error }]
    }
}
