use super::adam::agree;
use super::{Oracle, Real, Rounded, StepScalars};

/// Adan (arXiv 2208.06677, algorithm 1) as its authors' package; `optax`: differences weigh 1 - β₂ instead of β₂.
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework")]
pub struct AdanOracle {
    pub betas: (f64, f64, f64),
    pub eps: f64,
    pub eps_root: f64,
    pub no_prox: bool,
    pub optax: bool,
    /// arXiv 2411.16085 without the rescaling, as timm applies it.
    pub cautious: bool,
    /// arXiv 2510.12402.
    pub cautious_weight_decay: bool,
}

impl AdanOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2, beta3) = self.betas;
        let weight = N::constant(if self.optax { 1.0 - beta2 } else { beta2 });
        let negated = N::constant(0.0) - grad;
        let diff = if step.t == 1 { N::constant(0.0) } else { grad + state[3] };
        let nesterov = grad + weight * diff;
        state[0] = N::average(beta1, state[0], grad);
        state[1] = N::average(beta2, state[1], diff);
        state[2] = N::average(beta3, state[2], nesterov * nesterov);
        state[3] = negated;
        let momentum = state[0] / N::bias_correction(beta1, step.t);
        let change = state[1] / N::bias_correction(beta2, step.t);
        let zero = N::constant(0.0);
        let spared = self.cautious_weight_decay && agree(zero - (momentum + weight * change), param);
        let momentum = if self.cautious && !agree(state[0], grad) { zero } else { momentum };
        let second_moment = state[2] / N::bias_correction(beta3, step.t);
        let denom = (second_moment + N::constant(self.eps_root)).sqrt() + N::constant(self.eps);
        let lr = N::lr(step.lr);
        let update = lr * ((momentum + weight * change) / denom);
        let decay = if spared { zero } else { lr * N::constant(step.weight_decay) };
        if self.no_prox {
            param * (N::constant(1.0) - decay) - update
        } else {
            (param - update) / (N::constant(1.0) + decay)
        }
    }
}

oracle!(AdanOracle, self => vec!["exp_avg", "exp_avg_diff", "exp_avg_sq", "neg_pre_grad"]);
