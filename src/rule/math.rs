/// A running average: beta * old + (1 - beta) * value.
///
/// The difference form, as in `torch.lerp`, keeps the rounding of beta (up to 1e-4 of 1 - beta) out of the result.
#[inline(always)]
pub(crate) fn lerp(old: f32, value: f32, beta: f32, one_minus_beta: f32) -> f32 {
    let stepped = old + one_minus_beta * (value - old);
    let weighted = beta * old + one_minus_beta * value;
    if one_minus_beta <= 0.5 { stepped } else { weighted }
}

/// The larger of two non-negative numbers, and NaN where one is NaN, as `torch.maximum`.
#[inline(always)]
pub(crate) fn maximum(a: f32, b: f32) -> f32 {
    f32::from_bits(a.to_bits().max(b.to_bits()))
}

/// -1, 0 or 1; 0 for zero and for NaN, as `torch.sign`, unlike [`f32::signum`].
#[inline(always)]
pub(crate) fn sign_of(value: f32) -> f32 {
    f32::from(value > 0.0) - f32::from(value < 0.0)
}

/// Whether both are positive or both negative. Their product could underflow.
#[inline(always)]
pub(crate) fn same_sign(a: f32, b: f32) -> bool {
    (a > 0.0 && b > 0.0) || (a < 0.0 && b < 0.0)
}
