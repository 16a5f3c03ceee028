//! Sums over tensors, for rules that have any.

use super::Rounded;

/// Adds up to two million terms that are not negative, as no tree of more than 27 roundings rounds them: 8 rows, 2 for a
/// lane's quad, 8 for the workgroup's tree, and 1 and 8 more for the tensor's. A sum in f32 is off by no more than that of
/// its largest partial sum.
pub fn measured(terms: impl IntoIterator<Item = Vec<Rounded>>) -> Vec<Rounded> {
    let mut sums: Vec<Rounded> = Vec::new();
    for term in terms {
        sums.resize(term.len(), Rounded { value: 0.0, error: 0.0 });
        for (sum, term) in sums.iter_mut().zip(term) {
            assert!(term.value >= 0.0, "cancellation would need another bound");
            *sum = Rounded { value: sum.value + term.value, error: sum.error + term.error };
        }
    }
    sums.into_iter().map(|sum| sum.with_ulps(0.5 * 27.0)).collect()
}
