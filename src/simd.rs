//! Selects the instruction set at run time.

/// Bytes of a cache line; no vector is longer.
pub(crate) const CACHE_LINE_BYTES: usize = 64;

/// Calls `f`, compiled for this machine's instruction set (AVX2 on x86-64) as far as it is inlined.
///
/// The choice changes no bit: rustc neither fuses multiplications with additions nor reorders sums.
#[cfg(feature = "simd")]
#[inline(always)]
pub(crate) fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    use std::sync::LazyLock;
    static ARCH: LazyLock<pulp::Arch> = LazyLock::new(pulp::Arch::new);
    ARCH.dispatch(f)
}

#[cfg(not(feature = "simd"))]
pub(crate) fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    f()
}
