//! Two directions in the space of parameters: random ones, or those in which training moved most.

use nalgebra::{DMatrix, SymmetricEigen};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use crate::Result;
use mlp_mnist::model::Model;

/// Two random directions, normalised by filters (Li et al. 2018): normal numbers, every output unit's weights scaled to
/// the norm of the unit's own in `parameters`; zero for the biases.
pub(crate) fn filter_normalised(model: &Model, parameters: &[f32], seed: u64) -> [Vec<f32>; 2] {
    let mut rng = StdRng::seed_from_u64(seed);
    [(); 2].map(|()| {
        let mut direction = vec![0.0; parameters.len()];
        for layer in &model.layers {
            let units = direction[layer.weight.clone()].chunks_exact_mut(layer.inputs);
            for (unit, own) in units.zip(parameters[layer.weight.clone()].chunks_exact(layer.inputs)) {
                unit.fill_with(|| StandardNormal.sample(&mut rng));
                let scale = (norm(own) / norm(unit)) as f32;
                for value in unit {
                    *value *= scale;
                }
            }
        }
        direction
    })
}

pub(crate) fn norm(values: &[f32]) -> f64 {
    dot(values, values).sqrt()
}

/// The principal components of a path.
#[derive(Debug)]
pub(crate) struct Components {
    /// The first two, of length 1 and at right angles.
    pub(crate) directions: [Vec<f32>; 2],
    /// The share of the path's variance along each.
    pub(crate) shares: [f64; 2],
}

/// The two directions of the largest variance of the points of a path.
///
/// # Errors
/// Points that all lie on one line.
pub(crate) fn components(path: &[Vec<f32>]) -> Result<Components> {
    let points = path.len() as f64;
    let mut centred = path.to_vec();
    for element in 0..path.first().map_or(0, Vec::len) {
        let mean = path.iter().map(|point| f64::from(point[element])).sum::<f64>() / points;
        for (centred, point) in centred.iter_mut().zip(path) {
            centred[element] = (f64::from(point[element]) - mean) as f32;
        }
    }
    // The products of the points with each other have the covariance's eigenvalues, and are far fewer.
    let gram = DMatrix::from_fn(path.len(), path.len(), |i, j| dot(&centred[i], &centred[j]));
    let variance = gram.trace();
    let eigen = SymmetricEigen::new(gram);
    let mut order: Vec<usize> = (0..path.len()).collect();
    order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
    let [first, second, ..] = order[..] else {
        return Err("a path of one point has no directions: give more --epochs".into());
    };
    if eigen.eigenvalues[second] <= 1e-9 * variance {
        return Err("the path of training is a line, which spans no plane: give more --epochs".into());
    }
    let direction = |index: usize| {
        let weights = eigen.eigenvectors.column(index);
        let length = eigen.eigenvalues[index].sqrt();
        let element = |element: usize| {
            let sum: f64 = centred.iter().zip(&weights).map(|(point, weight)| f64::from(point[element]) * weight).sum();
            (sum / length) as f32
        };
        (0..centred[0].len()).map(element).collect::<Vec<_>>()
    };
    Ok(Components {
        directions: [first, second].map(direction),
        shares: [first, second].map(|index| eigen.eigenvalues[index] / variance),
    })
}

/// Where the points of a path lie above a plane through `origin`, in units of its directions, which are at right angles.
pub(crate) fn project(path: &[Vec<f32>], origin: &[f32], directions: &[Vec<f32>; 2]) -> Vec<[f64; 2]> {
    let coordinates = |point: &Vec<f32>| {
        let offset: Vec<f32> = point.iter().zip(origin).map(|(point, origin)| point - origin).collect();
        directions.each_ref().map(|direction| dot(&offset, direction) / dot(direction, direction))
    };
    path.iter().map(coordinates).collect()
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
