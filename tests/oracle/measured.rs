//! Sums over tensors, for rules that have any.

use super::{HALF_ULP, Rounded};

/// Adds up to two million terms as no order of more than 45 roundings rounds them: 8 rows, 2 for a lane's quad, 7, 7 and 3 for
/// the workgroup's stages, and 1 and 17 more for the tensor's. A sum in f32 is off by no more than that of the sum of the terms'
/// absolute values.
pub fn measured(terms: impl IntoIterator<Item = Vec<Rounded>>) -> Vec<Rounded> {
    let mut sums: Vec<(Rounded, f64)> = Vec::new();
    for term in terms {
        sums.resize(term.len(), (Rounded { value: 0.0, error: 0.0 }, 0.0));
        for ((sum, size), term) in sums.iter_mut().zip(term) {
            *sum = Rounded { value: sum.value + term.value, error: sum.error + term.error };
            *size += term.value.abs();
        }
    }
    let rounded = |(sum, size): (Rounded, f64)| {
        let cancelled = size - sum.value.abs();
        let sum = Rounded { error: sum.error + 45.0 * HALF_ULP * cancelled.max(0.0), ..sum };
        sum.with_ulps(0.5 * 45.0)
    };
    sums.into_iter().map(rounded).collect()
}
