//! Work on several threads, with feature `rayon`. Results come in order and depend on no thread count.

/// Calls `f` for every element of `items`.
pub(crate) fn map<P: Send, T: Send>(items: Vec<P>, f: impl Fn(P) -> T + Sync + Send) -> Vec<T> {
    // Waking a thread takes longer than a small task.
    #[cfg(feature = "rayon")]
    if items.len() > 1 && threads() > 1 {
        use rayon::prelude::*;
        return items.into_par_iter().map(f).collect();
    }
    items.into_iter().map(f).collect()
}

pub(crate) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    1
}
