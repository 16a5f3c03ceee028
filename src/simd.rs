//! The widest vectors that the machine has, chosen at run time.

/// Bytes of a cache line, and no less than those of a vector.
pub(crate) const LINE: usize = 64;

/// Calls `f`, compiled for this machine's instruction set (AVX2 where x86-64 has it) as far as it is inlined.
///
/// Bits do not depend on the choice: rustc never fuses multiplications and additions, though the set may have such
/// instructions, and reorders no sum.
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
