//! CPU references of the kernels in `shaders/`.

use rayon::prelude::*;

use crate::splats::{ANGLE, BLUR, COLOUR, COLUMNS, EDGE, LOG_LENGTH, LOG_WIDTH, OPACITY, Shape, Splat, X, Y, shape};

/// Rows of pixels that a thread computes at a time.
const BAND: usize = 8;

/// Errors of all pixels: the sum of the splats less the target.
pub(crate) fn forward(shapes: &[Shape], target: &[[f32; 3]], width: usize, errors: &mut [[f32; 3]]) {
    errors.par_chunks_mut(BAND * width).enumerate().for_each(|(band, errors)| {
        let top = (band * BAND) as u32;
        let bottom = top + (errors.len() / width) as u32;
        let target = &target[top as usize * width..][..errors.len()];
        errors.fill([0.0; 3]);
        for shape in shapes {
            for y in shape.first[1].max(top)..shape.end[1].min(bottom) {
                for x in shape.first[0]..shape.end[0] {
                    let (_, _, gauss) = shape.at(x, y);
                    let weight = (gauss - EDGE).max(0.0);
                    let sum = &mut errors[(y - top) as usize * width + x as usize];
                    for (sum, light) in sum.iter_mut().zip(shape.light) {
                        *sum += light * weight;
                    }
                }
            }
        }
        for (sum, target) in errors.as_flattened_mut().iter_mut().zip(target.as_flattened()) {
            *sum -= target;
        }
    });
}

/// Sum of the squared errors.
pub(crate) fn loss(errors: &[[f32; 3]]) -> f64 {
    errors.as_flattened().iter().map(|&error| f64::from(error).powi(2)).sum()
}

/// Gradients of half the loss for one splat, and the sum over its pixels of the length of the centre's gradient.
pub(crate) fn backward(splat: &Splat, shape: &Shape, errors: &[[f32; 3]], width: usize) -> (Splat, f32) {
    let [mut u_sum, mut v_sum, mut uu_sum, mut vv_sum, mut uv_sum, mut score] = [0.0_f32; 6];
    let mut colours = [0.0_f32; 3];
    for y in shape.first[1]..shape.end[1] {
        for x in shape.first[0]..shape.end[0] {
            let (u, v, gauss) = shape.at(x, y);
            if gauss <= EDGE {
                continue;
            }
            let error = errors[y as usize * width + x as usize];
            let slope = gauss * (error[0] * shape.light[0] + error[1] * shape.light[1] + error[2] * shape.light[2]);
            let (slope_u, slope_v) = (slope * u, slope * v);
            u_sum += slope_u;
            v_sum += slope_v;
            uu_sum += slope_u * u;
            vv_sum += slope_v * v;
            uv_sum += slope_u * v;
            let moves = [0, 1].map(|axis| slope_u * shape.along[axis] + slope_v * shape.across[axis]);
            score += (moves[0] * moves[0] + moves[1] * moves[1]).sqrt();
            for (sum, error) in colours.iter_mut().zip(error) {
                *sum += error * (gauss - EDGE);
            }
        }
    }
    let mut grads = [0.0; COLUMNS];
    grads[X] = u_sum * shape.along[0] + v_sum * shape.across[0];
    grads[Y] = u_sum * shape.along[1] + v_sum * shape.across[1];
    let [length, width] = shape.axes;
    grads[LOG_LENGTH] = uu_sum * (1.0 - BLUR / (length * length));
    grads[LOG_WIDTH] = vv_sum * (1.0 - BLUR / (width * width));
    grads[ANGLE] = uv_sum * (length / width - width / length);
    for channel in 0..3 {
        grads[COLOUR + channel] = splat[OPACITY] * colours[channel];
    }
    grads[OPACITY] = splat[COLOUR] * colours[0] + splat[COLOUR + 1] * colours[1] + splat[COLOUR + 2] * colours[2];
    (grads, score)
}

/// Shapes of the live splats.
pub(crate) fn project(splats: &[Splat], size: [u32; 2]) -> Vec<Shape> {
    splats.par_iter().map(|splat| shape(splat, size)).collect()
}
