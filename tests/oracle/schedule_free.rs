use super::history::History;
use super::{Oracle, Real, Rounded, StepScalars};

/// Schedule-free SGD and, with `adam`, AdamW (arXiv 2405.15682) as `facebookresearch/schedule_free` documents them.
pub struct ScheduleFreeOracle {
    pub momentum: f64,
    /// β₂ and eps.
    pub adam: Option<(f64, f64)>,
    pub averaging: Averaging,
    pub exact: History<Weights>,
    pub rounded: History<RoundedWeights>,
}

#[derive(Clone, Copy)]
pub struct Averaging {
    pub warmup_steps: u64,
    pub r: i32,
    pub weight_lr_power: i32,
}

#[derive(Clone, Copy)]
pub struct Weights {
    lr_max: f64,
    sum: f64,
    /// Factor of the learning rate, and share of z in the average.
    warmup: f64,
    share: f64,
}

/// The same with bounds for what the crate computes: `sum` in units of the step's own weight.
#[derive(Clone, Copy)]
pub struct RoundedWeights {
    exact: Weights,
    lr_max: Rounded,
    sum: Rounded,
    warmup: Rounded,
    share: Rounded,
}

impl Averaging {
    fn warmup(&self, t: u64) -> f64 {
        if t < self.warmup_steps { t as f64 / self.warmup_steps as f64 } else { 1.0 }
    }

    fn next(&self, before: Option<Weights>, step: &StepScalars) -> Weights {
        let warmup = self.warmup(step.t);
        let lr_max = before.map_or(0.0, |before| before.lr_max).max(step.lr * warmup);
        let weight = (step.t as f64).powi(self.r) * lr_max.powi(self.weight_lr_power);
        let sum = before.map_or(0.0, |before| before.sum) + weight;
        Weights { lr_max, sum, warmup, share: if sum == 0.0 { 0.0 } else { weight / sum } }
    }

    fn next_rounded(&self, before: Option<RoundedWeights>, step: &StepScalars) -> RoundedWeights {
        let exact = self.next(before.map(|before| before.exact), step);
        let (one, t) = (Rounded::constant(1.0), step.t);
        let mut warmup = one;
        if t <= self.warmup_steps {
            warmup = Rounded::constant(1.0 / self.warmup_steps as f64) * Rounded::constant(t as f64);
        }
        let lr = Rounded::lr(step.lr) * warmup;
        let zero = Rounded::exact(0.0);
        let (old_lr_max, mut sum) = before.map_or((zero, zero), |before| (before.lr_max, before.sum));
        // Just after the warm-up, what rounding left below the full learning rate is still to come.
        let grows = lr.value + lr.error > old_lr_max.value - old_lr_max.error;
        let lr_max = if grows && lr.value >= old_lr_max.value { lr } else { old_lr_max };
        let mut share = zero;
        if exact.sum > 0.0 {
            for _ in 0..self.r {
                sum = sum * (Rounded::constant((t - 1) as f64) / Rounded::constant(t as f64));
            }
            if grows && sum.value > 0.0 {
                for _ in 0..self.weight_lr_power {
                    sum = sum * (old_lr_max / lr_max);
                }
            }
            sum = sum + one;
            share = one / sum;
        }
        let near =
            |bound: Rounded, exact: f64| Rounded { value: exact, error: bound.error + (bound.value - exact).abs() };
        RoundedWeights { exact, lr_max, sum, warmup: near(warmup, exact.warmup), share: near(share, exact.share) }
    }
}

impl ScheduleFreeOracle {
    pub fn new(momentum: f64, adam: Option<(f64, f64)>, averaging: Averaging) -> Self {
        Self { momentum, adam, averaging, exact: History::new(), rounded: History::new() }
    }

    fn equations<N: Real>(&self, (warmup, share): (N, N), step: &StepScalars, y: N, grad: N, state: &mut [N]) -> N {
        let (one, momentum, lr) = (N::constant(1.0), N::constant(self.momentum), N::lr(step.lr) * warmup);
        if step.t == 1 {
            state[0] = y;
        }
        let mut grad = grad;
        if let Some((beta2, eps)) = self.adam {
            state[1] = N::constant(beta2) * state[1] + N::constant(1.0 - beta2) * (grad * grad);
            grad = grad / ((state[1] / N::bias_correction(beta2, step.t)).sqrt() + N::constant(eps));
        }
        let grad = grad + N::constant(step.weight_decay) * y;
        let z = state[0];
        state[0] = z - lr * grad;
        (one - share) * y + share * z - lr * (one - momentum * (one - share)) * grad
    }

    fn weights(&self, step: &StepScalars) -> Weights {
        self.exact.at(step.t, |before| self.averaging.next(before, step))
    }

    fn rounded_weights(&self, step: &StepScalars) -> RoundedWeights {
        self.rounded.at(step.t, |before| self.averaging.next_rounded(before, step))
    }
}

impl Oracle for ScheduleFreeOracle {
    fn state_names(&self) -> Vec<&'static str> {
        if self.adam.is_some() { vec!["z", "exp_avg_sq"] } else { vec!["z"] }
    }

    fn update(&self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64 {
        let Weights { warmup, share, .. } = self.weights(step);
        self.equations((warmup, share), step, param, grad, state)
    }

    fn update_rounded(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &mut [Rounded]) -> Rounded {
        let RoundedWeights { warmup, share, .. } = self.rounded_weights(step);
        self.equations((warmup, share), step, param, grad, state)
    }

    /// The way towards z may be opposite to that of the gradient.
    fn largest_term(&self, step: &StepScalars, param: f64, grad: f64, state: &[f64]) -> f64 {
        let Weights { warmup, share, .. } = self.weights(step);
        let mut grad = grad.abs();
        if let Some((beta2, eps)) = self.adam {
            grad /= (state[1] / f64::bias_correction(beta2, step.t)).sqrt() + eps;
        }
        let grad = grad.max((step.weight_decay * param).abs());
        let (of_z, of_grad) = (share * (state[0].abs() + step.lr * warmup * grad), 1.0 - self.momentum * (1.0 - share));
        of_z.max(step.lr * warmup * of_grad * grad)
    }

    fn scalar_error(&self, step: &StepScalars, param: f64, grad: f64, state: &[f64]) -> f64 {
        let RoundedWeights { warmup, share, .. } = self.rounded_weights(step);
        let mut grad = grad;
        if let Some((beta2, eps)) = self.adam {
            grad /= (state[1] / f64::bias_correction(beta2, step.t)).sqrt() + eps;
        }
        let change = step.lr * (grad + step.weight_decay * param).abs();
        let way = (state[0] + warmup.value * change - param).abs() + warmup.value * change;
        share.error * (way + self.momentum * change) + warmup.error * change
    }

    fn eval(&self, param: Rounded, state: &[Rounded]) -> Rounded {
        param - Rounded::constant((1.0 - self.momentum) / self.momentum) * (state[0] - param)
    }
}
