use super::kind::{Kind, Named, kind, linear};
use crate::Error;

kind! {
    /// A constant learning rate. With `factor`, PyTorch's `ConstantLR`: `lr·factor` before step `total_iters`, then
    /// `lr`.
    Constant = "constant" {
        /// The learning rate.
        lr: f64,
        ..
        /// Multiplies the learning rate of the first `total_iters` steps (default 1).
        factor: f64 = 1.0, with_factor;
        /// Steps that `factor` applies to (default 5).
        total_iters: u64 = 5, with_total_iters;
    }
}

impl Kind for Constant {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        Ok(if step < self.total_iters { self.lr * self.factor } else { self.lr })
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check_rate("factor", self.factor)
    }
}

kind! {
    /// PyTorch's `StepLR`: `lr·gammaᵏ` with `k = ⌊step/step_size⌋`.
    Step = "step" {
        /// Learning rate of the first steps.
        lr: f64,
        /// Steps between decays, at least 1.
        step_size: u64,
        ..
        /// Factor of each decay (default 0.1).
        gamma: f64 = 0.1, with_gamma;
    }
}

impl Kind for Step {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let decays = step.checked_div(self.step_size).unwrap_or_default();
        Ok(self.lr * self.gamma.powf(decays as f64))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check_rate("gamma", self.gamma)?;
        Self::check_count("step_size", self.step_size)
    }
}

kind! {
    /// PyTorch's `MultiStepLR`: `lr·gammaᵏ`, where k is the number of milestones up to the step.
    MultiStep = "multi_step" {
        /// Learning rate of the first steps.
        lr: f64,
        /// Steps at which the learning rate decays, in any order. A repeated milestone decays it again.
        milestones: Vec<u64>,
        ..
        /// Factor of each decay (default 0.1).
        gamma: f64 = 0.1, with_gamma;
    }
}

impl Kind for MultiStep {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let reached = self.milestones.iter().filter(|&&milestone| milestone <= step).count();
        Ok(self.lr * self.gamma.powf(reached as f64))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check_rate("gamma", self.gamma)
    }
}

kind! {
    /// PyTorch's `ExponentialLR`: `lr·gammaˢᵗᵉᵖ`.
    Exponential = "exponential" {
        /// Learning rate of step 0.
        lr: f64,
        /// Factor from one step to the next.
        gamma: f64,
    }
}

impl Kind for Exponential {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        Ok(self.lr * self.gamma.powf(step as f64))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check_rate("gamma", self.gamma)
    }
}

kind! {
    /// PyTorch's `LinearLR`: changes linearly from `lr·start_factor` at step 0 to `lr·end_factor` at step
    /// `total_iters`, then stays there. Unlike in PyTorch, factors may be 0 or above 1.
    Linear = "linear" {
        /// Base learning rate, which the factors multiply.
        lr: f64,
        ..
        /// Factor of step 0 (default 1/3).
        start_factor: f64 = 1.0 / 3.0, with_start_factor;
        /// Factor from `total_iters` on (default 1).
        end_factor: f64 = 1.0, with_end_factor;
        /// Steps from one factor to the other, at least 1 (default 5).
        total_iters: u64 = 5, with_total_iters;
    }
}

impl Kind for Linear {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let part = step.min(self.total_iters) as f64 / self.total_iters as f64;
        Ok(self.lr * linear(self.start_factor, self.end_factor, part))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check_rate("start_factor", self.start_factor)?;
        Self::check_rate("end_factor", self.end_factor)?;
        Self::check_count("total_iters", self.total_iters)
    }
}

kind! {
    /// PyTorch's `PolynomialLR`: `min_lr + (lr - min_lr)·(1 - step/total_iters)^power`, and `min_lr` from `total_iters` on.
    /// With `min_lr` it is optax's `polynomial_schedule`.
    Polynomial = "polynomial" {
        /// Learning rate of step 0.
        lr: f64,
        ..
        /// Steps to the end, at least 1 (default 5).
        total_iters: u64 = 5, with_total_iters;
        /// The power, 0 or greater (default 1).
        power: f64 = 1.0, with_power;
        /// Final learning rate (default 0); optax's `end_value`.
        min_lr: f64 = 0.0, with_min_lr;
    }
}

impl Kind for Polynomial {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let left = 1.0 - step.min(self.total_iters) as f64 / self.total_iters as f64;
        Ok(linear(self.min_lr, self.lr, left.powf(self.power)))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check_rate("min_lr", self.min_lr)?;
        Self::check_rate("power", self.power)?;
        Self::check_count("total_iters", self.total_iters)
    }
}

kind! {
    /// fairseq's `inverse_sqrt`, Hugging Face's `get_inverse_sqrt_schedule`: rises linearly from `warmup_init_lr` to
    /// `lr` at step `warmup_steps`, then is `lr·√(warmup_steps/step)`.
    InverseSqrt = "inverse_sqrt" {
        /// The largest learning rate.
        lr: f64,
        /// Steps of the rise, at least 1.
        warmup_steps: u64,
        ..
        /// Learning rate of step 0 (default 0).
        warmup_init_lr: f64 = 0.0, with_warmup_init_lr;
    }
}

impl Kind for InverseSqrt {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let warmup_steps = self.warmup_steps as f64;
        if step < self.warmup_steps {
            return Ok(linear(self.warmup_init_lr, self.lr, step as f64 / warmup_steps));
        }
        Ok(self.lr * (warmup_steps / step as f64).sqrt())
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("lr", self.lr)?;
        Self::check_rate("warmup_init_lr", self.warmup_init_lr)?;
        Self::check_count("warmup_steps", self.warmup_steps)
    }
}

kind! {
    /// The schedule of "Attention is all you need" (arXiv 1706.03762):
    /// `factor/√model_size·min(1/√t, t/warmup_steps^1.5)` with `t = max(step, 1)`, as in "The annotated transformer".
    Noam = "noam" {
        /// Width of the model, at least 1.
        model_size: u64,
        /// Steps of the rise, at least 1.
        warmup_steps: u64,
        ..
        /// Multiplies every learning rate (default 1).
        factor: f64 = 1.0, with_factor;
    }
}

impl Kind for Noam {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let t = step.max(1) as f64;
        let rise = t * (self.warmup_steps as f64).powf(-1.5);
        Ok(self.factor / (self.model_size as f64).sqrt() * rise.min(1.0 / t.sqrt()))
    }

    fn validate(&self) -> Result<(), Error> {
        Self::check_rate("factor", self.factor)?;
        Self::check_count("model_size", self.model_size)?;
        Self::check_count("warmup_steps", self.warmup_steps)
    }
}
