//! 1 - beta^t from the step counter, without cancellation.

/// `powers` of the WGSL: for each hexadecimal digit of t and each of its values n, beta^n and 1 - beta^n, rounded once from
/// f64; up to four betas.
#[derive(Debug, Clone)]
pub(crate) struct BiasPowers([[f32; 4]; 256]);

impl BiasPowers {
    pub(crate) fn new(betas: &[f64]) -> Self {
        Self(std::array::from_fn(|word| {
            let (digit, value) = (word / 32, word % 32 / 2);
            let n = value as f64 * 16f64.powi(digit as i32);
            std::array::from_fn(|lane| {
                let beta = betas.get(lane).copied().unwrap_or(0.0);
                // 1 - beta^n = -expm1(n ln beta) keeps its digits where beta^n is close to 1. 0^0 is 1.
                let exponent = if value == 0 { 0.0 } else { n * beta.ln() };
                (if word % 2 == 0 { exponent.exp() } else { -exponent.exp_m1() }) as f32
            })
        }))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::bytes_of(&self.0)
    }

    /// 1 - beta^t.
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
        // The last beta reaches the highest digits; the powers of the others are 0 there.
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
    fn no_step_has_corrections_of_zero() {
        let bits = BiasPowers::new(&[0.9, 0.0, 1.0 - 1e-9]).bias_correction(0).map(f32::to_bits);
        assert_eq!(bits, [0; 4]);
    }

    #[test]
    fn a_beta_of_zero_needs_no_correction() {
        assert_eq!(BiasPowers::new(&[0.0]).bias_correction(7), [1.0; 4]);
    }
}
