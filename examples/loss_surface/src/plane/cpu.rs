//! The CPU reference of `plane.wgsl`, one thread per part of the points.

use rayon::prelude::*;

use super::{Layers, Plane, pixels};
use mlp_mnist::data::{CLASSES, Examples};
use mlp_mnist::gemm::{Matrix, multiply};

pub(super) fn losses(plane: &Plane, layers: Layers, examples: &Examples) -> Vec<f32> {
    let x = pixels(examples);
    let z = plane.vectors().map(|parameters| hidden(&x, parameters, layers, examples));
    let places = [0, 1].map(|direction| plane.places(direction));
    let points = (0..plane.side * plane.side).into_par_iter();
    let point = |i: usize| [places[0][i % plane.side] as f32, places[1][i / plane.side] as f32];
    points.map(|i| loss(point(i), plane, layers, &z, &examples.labels)).collect()
}

/// zₖ = x · Wₖᵀ + bₖ of the hidden layer.
fn hidden(x: &[f32], parameters: &[f32], layers: Layers, examples: &Examples) -> Vec<f32> {
    let layer = layers.hidden;
    let mut z = vec![0.0; examples.len() * layer.outputs];
    let weight = Matrix::new(&parameters[layer.weight.clone()], layer.outputs, layer.inputs);
    multiply(Matrix::new(x, examples.len(), layer.inputs), weight.transposed(), &mut z);
    for row in z.chunks_exact_mut(layer.outputs) {
        for (z, bias) in row.iter_mut().zip(&parameters[layer.bias.clone()]) {
            *z += bias;
        }
    }
    z
}

fn loss([a, b]: [f32; 2], plane: &Plane, layers: Layers, z: &[Vec<f32>; 3], labels: &[u8]) -> f32 {
    let [origin, first, second] = plane.vectors();
    let mix = |element: usize| origin[element] + a * first[element] + b * second[element];
    let hidden = layers.last.inputs;
    let weight: Vec<[f32; CLASSES]> =
        (0..hidden).map(|j| std::array::from_fn(|class| mix(layers.last.weight.start + class * hidden + j))).collect();
    let bias: [f32; CLASSES] = std::array::from_fn(|class| mix(layers.last.bias.start + class));

    let mut sum = 0.0;
    let rows = z[0].chunks_exact(hidden).zip(z[1].chunks_exact(hidden)).zip(z[2].chunks_exact(hidden));
    for (((z, z_first), z_second), &label) in rows.zip(labels) {
        let mut logits = bias;
        for (((z, z_first), z_second), weight) in z.iter().zip(z_first).zip(z_second).zip(&weight) {
            let h = (z + a * z_first + b * z_second).max(0.0);
            for (logit, weight) in logits.iter_mut().zip(weight) {
                *logit += h * weight;
            }
        }
        let largest = logits.iter().copied().fold(f32::MIN, f32::max);
        let exps: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        sum += f64::from(exps.ln() + (largest - logits[usize::from(label)]));
    }
    (sum / labels.len() as f64) as f32
}
