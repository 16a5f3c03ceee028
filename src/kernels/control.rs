use bytemuck::{Pod, Zeroable};

use crate::clip::ClipForm;

/// No element. Twin of the constant of the same name.
pub(crate) const NONE: u32 = u32::MAX;
/// Bits of the absolute value at and above which an f32 is infinite or NaN.
pub(crate) const INFINITE: u32 = 0x7f80_0000;
/// Bits of an f32 without its sign.
pub(crate) const ABSOLUTE: u32 = 0x7fff_ffff;

pub(crate) const MEASURED: u32 = 1;
pub(crate) const INVALID_SCALE: u32 = 2;

pub(crate) const CLIP: u32 = 1;
pub(crate) const SKIP: u32 = 2;
pub(crate) const STOP: u32 = 4;
pub(crate) const EXACT: u32 = 8;

/// The record one step leaves for the next. Twin of `ControlBlock` in `shaders/control.wgsl`, field by field.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub(crate) struct ControlBlock {
    pub(crate) bias_correction: [f32; 4],
    pub(crate) upcoming_bias_correction: [f32; 4],
    pub(crate) scalars: [f32; 4],
    pub(crate) step: u32,
    pub(crate) skipped: u32,
    pub(crate) apply: u32,
    pub(crate) stopped: u32,
    pub(crate) lr: f32,
    pub(crate) clip_coef: f32,
    pub(crate) grad_norm: f32,
    pub(crate) findings: u32,
    pub(crate) grad_factors: [f32; 2],
    /// Infinite where nothing is clipped by value.
    pub(crate) clip_value: f32,
    pub(crate) consecutive_skipped: u32,
    pub(crate) first_nonfinite: [u32; 2],
    padding_of_block: [u32; 2],
}

impl ControlBlock {
    /// Before the first step.
    pub(crate) fn new(powers: &BiasPowers, scalars: [f32; 4], clip: &ClipForm) -> Self {
        Self {
            scalars,
            clip_value: clip.value.unwrap_or(f32::INFINITY),
            upcoming_bias_correction: powers.bias_correction(1),
            clip_coef: 1.0,
            first_nonfinite: [NONE; 2],
            ..Self::zeroed()
        }
    }
}

/// What the host says of one recorded step.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub(crate) struct SlotHead {
    pub(crate) lr: f32,
    pub(crate) inv_scale: f32,
    pub(crate) max_norm: f32,
    pub(crate) flags: u32,
}

/// For each hexadecimal digit of a step's number, and each value that it may have, `beta^n` and `1 - beta^n` for the number `n`
/// that it stands for, rounded once from f64; of up to four betas.
#[derive(Debug, Clone)]
pub(crate) struct BiasPowers([[f32; 4]; 256]);

impl BiasPowers {
    pub(crate) fn new(betas: &[f64]) -> Self {
        Self(std::array::from_fn(|word| {
            let (digit, value) = (word / 32, word % 32 / 2);
            let n = value as f64 * 16f64.powi(digit as i32);
            std::array::from_fn(|lane| {
                let beta = betas.get(lane).copied().unwrap_or(0.0);
                // 1 - beta^n = -expm1(n ln beta) keeps its digits where beta^n is close to 1. 0 to the power of 0 is 1.
                let exponent = if value == 0 { 0.0 } else { n * beta.ln() };
                (if word % 2 == 0 { exponent.exp() } else { -exponent.exp_m1() }) as f32
            })
        }))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::bytes_of(&self.0)
    }

    /// `1 - beta^t`. Twin of the function of the same name in `shaders/control.wgsl`.
    pub(crate) fn bias_correction(&self, t: u32) -> [f32; 4] {
        let mut correction = [0.0f32; 4];
        for digit in 0..8 {
            let power = digit * 32 + ((t >> (digit * 4)) & 15) as usize * 2;
            for (lane, correction) in correction.iter_mut().enumerate() {
                *correction = self.0[power + 1][lane] + self.0[power][lane] * *correction;
            }
        }
        correction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NUMERICS: at most 2.5 ULP for beta from 0.9 to 0.999999 and t to 1e9.
    #[test]
    fn bias_corrections_do_not_cancel() {
        let steps =
            || (1..5_000).chain((0..60).map(|i| 5_000 + i * i * 250_000 + i)).chain([1_000_000_000, 3_141_592_653]);
        // The last for the highest digits, where the others' powers are 0.
        for beta in [0.9, 0.999, 0.9999, 0.999_999, 1.0 - 1e-9] {
            let powers = BiasPowers::new(&[0.5, beta]);
            for t in steps() {
                let got = powers.bias_correction(t)[1];
                let exact = -(f64::from(t) * f64::ln(beta)).exp_m1();
                let ulp = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
                assert!((f64::from(got) - exact).abs() <= 2.5 * ulp, "beta {beta}, t {t}: {got} for {exact}");
            }
        }
    }

    #[test]
    fn a_beta_of_zero_needs_no_correction() {
        assert_eq!(BiasPowers::new(&[0.0]).bias_correction(7), [1.0; 4]);
    }
}
