//! Projects the columns of active rows after a step.

use crate::groups::GroupTable;
use crate::projection::Projection;
use crate::random::{further_bits, random_bits};
use crate::rows::RowTable;

/// Inverse of the standard deviation of the sum of four 16-bit integers.
const INVERSE_DEVIATION: f32 = 2.642_903_4e-5;
/// The sum's mean.
const MEAN: i32 = 131_070;

/// Projects the active rows of all tensors with projections. `t` is the number of the applied step.
pub(crate) fn project(rows: &RowTable, groups: &GroupTable, t: u32, params: &mut [f32]) {
    for (start, columns, projections) in rows.projected() {
        for row in (0..rows.rows()).filter(|row| rows.is_active(*row)) {
            let first = start + row * columns;
            for projection in projections {
                project_row(projection, groups, first, t, params);
            }
        }
    }
}

/// Projects one row, whose first element is `first`.
fn project_row(projection: &Projection, groups: &GroupTable, first: u32, t: u32, params: &mut [f32]) {
    let elements = first + projection.columns().start..first + projection.columns().end;
    let mut scale = 1.0;
    if let Projection::UnitNorm { .. } = projection {
        let row = &params[elements.start as usize..elements.end as usize];
        let sum = row.iter().fold(0.0, |sum, param| sum + param * param);
        // The root of a normal number is one.
        scale = if sum.is_normal() { sum.sqrt() } else { 1.0 };
    }
    let spans = groups.covering(elements.start, elements.end).filter(|(.., span)| span.is_active());
    for element in spans.flat_map(|(from, to, _)| from..to) {
        let param = &mut params[element as usize];
        *param = match *projection {
            Projection::Clamp { min, max, .. } => param.max(min).min(max),
            Projection::UnitNorm { .. } => *param / scale,
            Projection::Noise { std, seed, .. } => *param + std * noise(seed, t, element),
        };
    }
}

/// Noise of mean 0 and standard deviation 1.
pub(crate) fn noise(seed: u32, t: u32, element: u32) -> f32 {
    let first = random_bits(seed, t, element);
    let second = further_bits(first, 1);
    let sum = (first & 0xffff) + (first >> 16) + (second & 0xffff) + (second >> 16);
    (sum as i32 - MEAN) as f32 * INVERSE_DEVIATION
}

#[cfg(test)]
mod tests {
    use super::noise;

    /// Moments of the normal distribution, and no relation between neighbors, steps and seeds.
    #[test]
    fn noise_is_close_to_normal() {
        let len = 1 << 20;
        let draws = |seed: u32, t: u32| (0..len).map(move |element| f64::from(noise(seed, t, element)));
        for (seed, t) in [(0, 1), (0, 2), (7, 1), (u32::MAX, 1_000_000)] {
            let moment = |power: i32| draws(seed, t).map(|draw| draw.powi(power)).sum::<f64>() / f64::from(len);
            // Five standard errors. The kurtosis of a sum of four uniform numbers is 3 - 6/5/4.
            let error = 5.0 / f64::from(len).sqrt();
            assert!(moment(1).abs() < error, "mean {}", moment(1));
            assert!((moment(2) - 1.0).abs() < error * 2f64.sqrt(), "variance {}", moment(2));
            assert!(moment(3).abs() < error * 15f64.sqrt(), "skewness {}", moment(3));
            assert!((moment(4) - 2.7).abs() < error * 96f64.sqrt(), "kurtosis {}", moment(4));
            let product = |other: Vec<f64>| draws(seed, t).zip(other).map(|(a, b)| a * b).sum::<f64>() / f64::from(len);
            for other in [draws(seed, t + 1).collect(), draws(seed ^ 1, t).collect(), draws(seed, t).skip(1).collect()]
            {
                assert!(product(other).abs() < error);
            }
        }
    }
}
