// A sum of powers of scaled elements that neither overflows nor underflows: for squares, sum * 4^exponent.

import package::kernels::control::{NONE};
import package::kernels::norm_order::{rescale};

struct ScaledSum {
    exponent: i32,
    sum: f32,
    // Largest bits of an absolute value: finite numbers, infinity and NaN in ascending order.
    max_bits: u32,
    first_nonfinite: u32,
}

fn empty_scaled_sum() -> ScaledSum {
    // equivalent(125): the exponent of a sum of 0 has no effect
    return ScaledSum(-126, 0.0, 0u, NONE);
}

fn combine(a: ScaledSum, b: ScaledSum) -> ScaledSum {
    let exponent = max(a.exponent, b.exponent);
    let sum = a.sum * rescale(a.exponent - exponent) + b.sum * rescale(b.exponent - exponent);
    return ScaledSum(exponent, sum, max(a.max_bits, b.max_bits), min(a.first_nonfinite, b.first_nonfinite));
}
