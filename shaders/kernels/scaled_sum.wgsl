// A sum of p-th powers that neither overflows nor underflows. Its value is sum * 2^(p * exponent).

import package::kernels::control::{NONE};
import package::kernels::norm_order::{rescale};

struct ScaledSum {
    exponent: i32,
    sum: f32,
    // Bits of the largest absolute value. Finite numbers, infinity and NaN sort in ascending order.
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
