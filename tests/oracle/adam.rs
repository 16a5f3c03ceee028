use super::{Oracle, Real, Rounded, StepScalars};

/// Adam (Kingma and Ba, arXiv 1412.6980) as `torch.optim.Adam` computes it and, `decoupled`, AdamW (arXiv 1711.05101)
/// as `torch.optim.AdamW` does; with a convention, as other frameworks do.
pub struct AdamOracle {
    pub betas: (f64, f64),
    pub eps: f64,
    pub decoupled: bool,
    pub amsgrad: bool,
    pub convention: Convention,
}

#[derive(Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework")]
pub struct Convention {
    /// optax: added to the corrected second moment, under the root.
    pub eps_root: f64,
    /// optax: AMSGrad's maximum is that of corrected moments.
    pub corrected_max: bool,
    /// Keras: the corrections are in the step size, and none is divided by.
    pub eps_hat: bool,
    /// bitsandbytes' CUDA kernels.
    pub decay_after: bool,
    /// optimi's `decouple_lr`.
    pub max_lr: Option<f64>,
    /// arXiv 2411.16085 without the rescaling.
    pub cautious: bool,
    /// arXiv 2510.12402.
    pub cautious_weight_decay: bool,
}

impl AdamOracle {
    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &mut [N]) -> N {
        let (beta1, beta2) = self.betas;
        let (lr, weight_decay, eps) = (N::lr(step.lr), N::constant(step.weight_decay), N::constant(self.eps));
        let Convention { eps_root, corrected_max, eps_hat, decay_after, max_lr, .. } = self.convention;
        let (correction1, correction2) = (N::bias_correction(beta1, step.t), N::bias_correction(beta2, step.t));
        let grad = if self.decoupled { grad } else { grad + weight_decay * param };
        state[0] = N::constant(beta1) * state[0] + N::constant(1.0 - beta1) * grad;
        state[1] = N::constant(beta2) * state[1] + N::constant(1.0 - beta2) * (grad * grad);
        let mut second_moment = state[1];
        if self.amsgrad {
            let candidate = if corrected_max { second_moment / correction2 } else { second_moment };
            state[2] = state[2].max(candidate);
            second_moment = state[2];
        }
        let corrected_max = self.amsgrad && corrected_max;
        let update = if eps_hat {
            lr * correction2.sqrt() / correction1 * state[0] / (second_moment.sqrt() + eps)
        } else if corrected_max || eps_root > 0.0 {
            let corrected = if corrected_max { second_moment } else { second_moment / correction2 };
            lr / correction1 * state[0] / ((corrected + N::constant(eps_root)).sqrt() + eps)
        } else {
            lr / correction1 * state[0] / (second_moment.sqrt() / correction2.sqrt() + eps)
        };
        let update = if self.convention.cautious && !agree(state[0], grad) { N::constant(0.0) } else { update };
        if !self.decoupled {
            return param - update;
        }
        let rate = max_lr.map_or(lr, |max_lr| lr / N::constant(max_lr));
        let spared = self.convention.cautious_weight_decay && agree(N::constant(0.0) - state[0], param);
        let kept = if spared { N::constant(1.0) } else { N::constant(1.0) - rate * weight_decay };
        if decay_after { (param - update) * kept } else { param * kept - update }
    }
}

/// Whether both have the same sign, and neither is 0.
pub fn agree<N: Real>(a: N, b: N) -> bool {
    a.sign().value() * b.sign().value() > 0.0
}

oracle!(AdamOracle, self => {
    let mut names = vec!["exp_avg", "exp_avg_sq"];
    names.extend(self.amsgrad.then_some("max_exp_avg_sq"));
    names
});
