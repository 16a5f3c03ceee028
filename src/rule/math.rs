/// A running average: beta * old + (1 - beta) * value.
///
/// The difference form, as in `torch.lerp`, keeps the rounding of beta (up to 1e-4 of 1 - beta) out of the result.
#[inline(always)]
pub(crate) fn lerp(old: f32, value: f32, beta: f32, one_minus_beta: f32) -> f32 {
    let stepped = old + one_minus_beta * (value - old);
    let weighted = beta * old + one_minus_beta * value;
    if one_minus_beta <= 0.5 { stepped } else { weighted }
}

/// The maximum of two non-negative numbers; NaN if either is NaN, as in `torch.maximum`.
#[inline(always)]
pub(crate) fn maximum(a: f32, b: f32) -> f32 {
    f32::from_bits(a.to_bits().max(b.to_bits()))
}

/// The sign, as in `torch.sign`: -1, 0 or 1; 0 for NaN. [`f32::signum`] differs at 0 and NaN.
#[inline(always)]
pub(crate) fn sign_of(value: f32) -> f32 {
    f32::from(value > 0.0) - f32::from(value < 0.0)
}

/// Whether both are positive or both are negative. Compares signs, because a product could underflow.
#[inline(always)]
pub(crate) fn same_sign(a: f32, b: f32) -> bool {
    (a > 0.0 && b > 0.0) || (a < 0.0 && b < 0.0)
}
