use super::{Oracle, Real, Rounded, StepScalars};

/// Adafactor (arXiv 1804.04235, algorithm 4) as `torch.optim.Adafactor` computes it. The one state is what the factors
/// say of an element.
pub struct AdafactorOracle {
    pub beta2_decay: f64,
    pub eps: (f64, f64),
    pub d: f64,
    /// `optax.adafactor`: the least size of dimensions that are factored.
    pub optax: Option<usize>,
}

/// The names of the factors.
pub const FACTORS: [&str; 3] = ["row_var", "col_var", "variance"];

/// The factors of one tensor, named by [`FACTORS`]. Empty before the first step.
#[derive(Clone, Default)]
pub struct Factors(pub [Vec<Rounded>; 3]);

/// A sum of positive terms, of which pieces of 64 are added up, and 64 of those before they are added to the others.
fn sum(terms: impl Iterator<Item = Rounded>) -> Rounded {
    let mut sum = Rounded { value: 0.0, error: 0.0 };
    let mut count = 0;
    for term in terms {
        sum = Rounded { value: sum.value + term.value, error: sum.error + term.error };
        count += 1;
    }
    let pieces = count / 64;
    let roundings = count.min(64) + pieces.min(64) + pieces / 64;
    sum.with_ulps(0.5 * f64::from(roundings))
}

impl AdafactorOracle {
    /// The power is a series, off by 5 ULP, times up to six rounded powers; that to 0 is 1.
    fn update_tensor_state(&self, t: u64, factors: &mut Vec<Rounded>, means: impl Iterator<Item = Rounded>) {
        let weight =
            Rounded::of_step((t as f64).powf(self.beta2_decay), if self.beta2_decay == 0.0 { 0.0 } else { 12.0 });
        let means: Vec<Rounded> = means.collect();
        factors.resize(means.len(), Rounded { value: 0.0, error: 0.0 });
        for (factor, mean) in factors.iter_mut().zip(means) {
            if weight.value > 0.5 {
                *factor = (Rounded::exact(1.0) - weight) * *factor + weight * mean;
                continue;
            }
            // The errors of the operands shrink with the exact average. The roundings of the step add to them.
            let distance = Rounded::exact((mean.value - factor.value).abs() + mean.error + factor.error);
            let step = weight * distance.with_ulps(0.5);
            let brought = (1.0 - weight.value) * factor.error + weight.value * mean.error;
            let value = (1.0 - weight.value) * factor.value + weight.value * mean.value;
            *factor = Rounded { value, error: brought + step.error }.with_ulps(0.5);
        }
    }

    fn direction<N: Real>(&self, grad: N, variance: N) -> N {
        let root = variance.sqrt();
        grad / if self.optax.is_some() { root } else { root.max(N::constant(self.eps.0)) }
    }

    fn equations<N: Real>(&self, step: &StepScalars, param: N, grad: N, state: &[N]) -> N {
        let lr = N::lr(step.lr);
        let limit = N::constant(1.0) / N::of_step(step.t as f64, 0.5).sqrt();
        let rho = if self.optax.is_some() { lr } else { lr.min(limit) };
        let rms = |sum: usize| (N::measured(step.measured[sum]) / N::measured(step.measured[2])).sqrt();
        let alpha = rms(0).max(N::constant(self.eps.1)) * rho;
        let denom = N::constant(1.0).max(rms(1) / N::constant(self.d));
        let rate = if self.optax.is_some() { N::constant(1.0) } else { lr };
        let decayed = param * (N::constant(1.0) - rate * N::constant(step.weight_decay));
        decayed - alpha / denom * self.direction(grad, state[0])
    }
}

impl Oracle for AdafactorOracle {
    fn state_names(&self) -> Vec<&'static str> {
        vec![]
    }

    fn state_count(&self) -> usize {
        1
    }

    fn update(&self, step: &StepScalars, param: f64, grad: f64, state: &mut [f64]) -> f64 {
        self.equations(step, param, grad, state)
    }

    fn update_rounded(&self, step: &StepScalars, param: Rounded, grad: Rounded, state: &mut [Rounded]) -> Rounded {
        self.equations(step, param, grad, state)
    }

    fn measure(&self, _: &StepScalars, param: Rounded, grad: Rounded, state: &[Rounded]) -> Vec<Rounded> {
        let update = self.direction(grad, state[0]);
        vec![param * param, update * update, Rounded::exact(1.0)]
    }

    fn settle_factors(&self, t: u64, shape: &[usize], grads: &[Rounded], factors: &mut Factors) -> Vec<Rounded> {
        let Factors([row_var, col_var, variance]) = factors;
        let squares: Vec<Rounded> = grads.iter().map(|&grad| grad * grad).collect();
        let eps = Rounded::constant(self.eps.0);
        let with_eps = |mean: Rounded| if self.optax.is_some() { mean + eps } else { mean };
        let (rows, columns) = match *shape {
            [.., rows, columns] if rows.min(columns) >= self.optax.unwrap_or(0) => (rows, columns),
            _ => {
                self.update_tensor_state(t, variance, squares.into_iter().map(with_eps));
                return variance.clone();
            }
        };
        let matrices = grads.len().checked_div(rows * columns).unwrap_or(0);
        let mean = |terms: &mut dyn Iterator<Item = usize>, of: usize| {
            with_eps(sum(terms.map(|element| squares[element])) / Rounded::exact(of as f64))
        };
        self.update_tensor_state(
            t,
            row_var,
            (0..matrices * rows).map(|r| mean(&mut (r * columns..(r + 1) * columns), columns)),
        );
        let column = |c: usize| {
            let first = c / columns * rows * columns + c % columns;
            mean(&mut (0..rows).map(|r| first + r * columns), rows)
        };
        self.update_tensor_state(t, col_var, (0..matrices * columns).map(column));
        let means = row_var.chunks(rows.max(1)).map(|of| sum(of.iter().copied()) / Rounded::exact(rows as f64));
        let means: Vec<Rounded> = means.map(|mean| if self.optax.is_some() { mean } else { mean.max(eps) }).collect();
        let element = |e: usize| {
            let (matrix, row, column) = (e / (rows * columns), e / columns, e % columns);
            row_var[row] / means[matrix] * col_var[matrix * columns + column]
        };
        (0..grads.len()).map(element).collect()
    }
}
