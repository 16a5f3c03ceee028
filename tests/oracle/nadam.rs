use super::adam::agree;
use super::history::History;
use super::{Oracle, Real, Rounded, StepScalars};

/// The conventions of frameworks and papers.
#[derive(Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option")]
pub struct NAdamOptions {
    pub decoupled: bool,
    /// optax: mu is beta1.
    pub constant_momentum: bool,
    pub eps_root: f64,
    /// arXiv 2411.16085 without the rescaling.
    pub cautious: bool,
    /// arXiv 2510.12402.
    pub cautious_weight_decay: bool,
}

/// NAdam (Dozat 2016) as `torch.optim.NAdam` documents it.
pub struct NAdamOracle {
    betas: (f64, f64),
    eps: f64,
    momentum_decay: f64,
    options: NAdamOptions,
    exact: History<Momentum<f64>>,
    rounded: History<Momentum<Rounded>>,
}

/// Factors of one step: the product of all momenta, and those of gradient and running average.
#[derive(Clone, Copy)]
struct Momentum<N> {
    product: N,
    of_grad: N,
    of_average: N,
}

impl NAdamOracle {
    pub fn new(betas: (f64, f64), eps: f64, momentum_decay: f64, options: NAdamOptions) -> Self {
        Self { betas, eps, momentum_decay, options, exact: History::new(), rounded: History::new() }
    }

    /// `beta1 (1 - 0.96^(t psi) / 2)`.
    fn mu<N: Real>(&self, t: u64) -> N {
        if self.options.constant_momentum {
            return N::constant(self.betas.0);
        }
        let one = N::constant(1.0);
        let decay = one - N::bias_correction(0.96f64.powf(self.momentum_decay), t);
        N::constant(self.betas.0) * (one - N::constant(0.5) * decay)
    }

    fn momentum<N: Real>(&self, t: u64, before: Option<Momentum<N>>) -> Momentum<N> {
        let one = N::constant(1.0);
        let (mu, mu_next) = (self.mu::<N>(t), self.mu::<N>(t + 1));
        let product = before.map_or(one, |before| before.product) * mu;
        Momentum { product, of_grad: (one - mu) / (one - product), of_average: mu_next / (one - product * mu_next) }
    }

    fn equations<N: Real>(&self, momentum: Momentum<N>, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2) = self.betas;
        let (lr, weight_decay) = (N::lr(step.lr), N::constant(step.weight_decay));
        let options = self.options;
        let grad = if options.decoupled { grad } else { grad + weight_decay * param };
        state[0] = N::constant(beta1) * state[0] + N::constant(1.0 - beta1) * grad;
        state[1] = N::constant(beta2) * state[1] + N::constant(1.0 - beta2) * (grad * grad);
        let denom = (state[1] / N::bias_correction(beta2, step.t) + N::constant(options.eps_root)).sqrt();
        let denom = denom + N::constant(self.eps);
        let direction = momentum.of_grad * (grad / denom) + momentum.of_average * (state[0] / denom);
        let spared = options.cautious_weight_decay && agree(N::constant(0.0) - direction, param);
        let masked = options.cautious && !agree(direction, grad);
        let decays = options.decoupled && !spared;
        let param = if decays { param * (N::constant(1.0) - lr * weight_decay) } else { param };
        if masked { param } else { param - lr * direction }
    }

    fn exact(&self, t: u64) -> Momentum<f64> {
        self.exact.at(t, |before| self.momentum(t, before))
    }

    fn rounded(&self, t: u64) -> Momentum<Rounded> {
        self.rounded.at(t, |before| self.momentum(t, before))
    }

    /// Absolute values of gradient and running average over the denominator.
    fn directions(&self, step: &StepScalars, param: f64, grad: f64, state: &[f64]) -> (f64, f64) {
        let grad = if self.options.decoupled { grad } else { grad + step.weight_decay * param };
        let denom = (state[1] / f64::bias_correction(self.betas.1, step.t) + self.options.eps_root).sqrt() + self.eps;
        (grad.abs() / denom, state[0].abs() / denom)
    }
}

impl Oracle for NAdamOracle {
    fn state_names(&self) -> Vec<&'static str> {
        vec!["exp_avg", "exp_avg_sq"]
    }

    fn update(&self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64 {
        self.equations(self.exact(step.t), step, param, grad, state)
    }

    fn update_rounded(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &mut [Rounded]) -> Rounded {
        self.equations(self.rounded(step.t), step, param, grad, state)
    }

    /// Gradient and running average may pull in opposite directions.
    fn largest_term(&self, step: &StepScalars, param: f64, grad: f64, state: &[f64]) -> f64 {
        let (of_grad, of_average) = self.directions(step, param, grad, state);
        let momentum = self.exact(step.t);
        step.lr * (momentum.of_grad * of_grad).max(momentum.of_average * of_average)
    }

    fn scalar_error(&self, step: &StepScalars, param: f64, grad: f64, state: &[f64]) -> f64 {
        let (of_grad, of_average) = self.directions(step, param, grad, state);
        let momentum = self.rounded(step.t);
        step.lr * (momentum.of_grad.error * of_grad + momentum.of_average.error * of_average)
    }
}
