//! The curvature at the parameters of a network.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use crate::directions::{dot, norm};
use mlp_mnist::cpu::Network;
use mlp_mnist::data::Examples;
use mlp_mnist::engine::Score;
use mlp_mnist::model::Model;

/// Distance from the parameters to each of the two gradients of a difference. Shorter ones
/// show the kinks of `ReLU`.
const STEP: f32 = 1e-2;
const MAX_ITERATIONS: usize = 20;
/// Of the eigenvalue's relative change, and of the relative difference between it and the length of Hessian times vector.
const TOLERANCE: f64 = 1e-3;

/// The mean loss over fixed examples, on the CPU.
pub(crate) struct Objective<'a> {
    network: Network<'a>,
}

impl<'a> Objective<'a> {
    pub(crate) fn new(model: &'a Model, examples: &Examples) -> Self {
        let mut network = Network::new(model);
        network.gather(examples, 0..examples.len());
        Self { network }
    }

    pub(crate) fn score(&mut self, parameters: &[f32]) -> Score {
        self.network.forward(parameters);
        self.network.cross_entropy()
    }

    pub(crate) fn gradient(&mut self, parameters: &[f32]) -> Vec<f32> {
        let mut grads = vec![0.0; parameters.len()];
        self.score(parameters);
        self.network.backward(parameters, &mut grads);
        grads
    }
}

/// The eigenvalue of largest magnitude of the Hessian: power iteration with central differences of gradients.
pub(crate) fn largest_eigenvalue(mut gradient: impl FnMut(&[f32]) -> Vec<f32>, parameters: &[f32], seed: u64) -> f64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut vector: Vec<f32> = parameters.iter().map(|_| StandardNormal.sample(&mut rng)).collect();
    let mut eigenvalue = 0.0;
    for _ in 0..MAX_ITERATIONS {
        let length = norm(&vector) as f32;
        if length == 0.0 {
            return 0.0;
        }
        for value in &mut vector {
            *value /= length;
        }
        let [ahead, behind] = [STEP, -STEP].map(|step| {
            let moved: Vec<f32> = parameters.iter().zip(&vector).map(|(at, value)| at + step * value).collect();
            gradient(&moved)
        });
        let product: Vec<f32> =
            ahead.iter().zip(&behind).map(|(ahead, behind)| (ahead - behind) / (2.0 * STEP)).collect();
        let before = std::mem::replace(&mut eigenvalue, dot(&vector, &product));
        // The length alone tells an eigenvector from a mixture of several.
        let difference = (eigenvalue - before).abs().max(norm(&product) - eigenvalue.abs());
        if difference <= TOLERANCE * eigenvalue.abs() {
            break;
        }
        vector = product;
    }
    eigenvalue
}

#[cfg(test)]
mod tests {
    use nalgebra::{DMatrix, DVector, SymmetricEigen};
    use rand::RngExt;

    use super::*;

    #[test]
    fn the_eigenvalue_of_a_quadratic_is_its_largest() {
        let eigenvalues = DVector::from_vec(vec![0.5_f32, -3.0, 7.0, 2.0, 0.0]);
        let mut normal = DVector::from_vec(vec![1.0_f32, 2.0, -1.0, 0.5, 3.0]);
        normal.normalize_mut();
        // A reflection mixes the axes.
        let axes: DMatrix<f32> = DMatrix::identity(5, 5) - &normal * normal.transpose() * 2.0_f32;
        for sign in [1.0_f32, -1.0] {
            let hessian: DMatrix<f32> = &axes * DMatrix::from_diagonal(&(&eigenvalues * sign)) * &axes;
            let gradient = |at: &[f32]| (&hessian * DVector::from_column_slice(at)).as_slice().to_vec();
            let found = largest_eigenvalue(gradient, &[0.3, -0.2, 0.1, 0.0, 0.4], 1);
            assert!((found - 7.0 * f64::from(sign)).abs() < 0.02, "{found}");
        }
        assert_eq!(largest_eigenvalue(|at| vec![1.0; at.len()], &[0.0; 3], 1), 0.0);
    }

    /// One layer, whose Hessian has no kinks and no negative eigenvalues. Its columns are differences of gradients.
    #[test]
    fn the_eigenvalue_of_a_network_is_that_of_its_dense_hessian() {
        let model = Model::new(&[6, 10]).expect("valid");
        let mut rng = StdRng::seed_from_u64(2);
        let images = (0..40 * 6).map(|_| rng.random()).collect();
        let examples = Examples { images, labels: (0..40_u16).map(|i| (i * i % 7) as u8).collect(), pixels: 6 };
        let mut objective = Objective::new(&model, &examples);
        let parameters = model.initial_parameters(3);
        let columns: Vec<f64> = (0..parameters.len())
            .flat_map(|element| {
                let [ahead, behind] = [1e-3, -1e-3].map(|step| {
                    let mut moved = parameters.clone();
                    moved[element] += step;
                    objective.gradient(&moved)
                });
                ahead.into_iter().zip(behind).map(|(ahead, behind)| f64::from(ahead - behind) / 2e-3)
            })
            .collect();
        let hessian = DMatrix::from_vec(parameters.len(), parameters.len(), columns);
        let expected = SymmetricEigen::new(hessian).eigenvalues.max();
        let found = largest_eigenvalue(|at| objective.gradient(at), &parameters, 4);
        assert!((found - expected).abs() < 0.02 * expected, "{found} against {expected}");
    }
}
