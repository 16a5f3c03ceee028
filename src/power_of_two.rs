//! Multiplication of absolute values by powers of two, through their exponent bits.

use crate::storage::INFINITE;

/// The bits of 2^-126, the least normal number.
const LEAST_NORMAL: u32 = 0x0080_0000;

/// 2^exponent; 0 below the normal range.
pub(crate) fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127).clamp(0, 254) as u32) << 23)
}

/// The bits of a number times 2^149, with an exponent of nine bits. Subnormal numbers are integers times 2^-149.
#[inline(always)]
fn raised(bits: u32) -> u32 {
    if bits < LEAST_NORMAL { (bits as i32 as f32).to_bits() } else { bits.wrapping_add(149 << 23) }
}

/// `scale_quad` of the WGSL for one finite number.
#[inline(always)]
pub(crate) fn scale_element(bits: u32, exponent: i32) -> f32 {
    let lowered = ((149 - exponent) as u32) << 23;
    let scaled = raised(bits).max(lowered) - lowered;
    f32::from_bits(scaled.min(INFINITE))
}

/// value * 2^exponent for value >= 0, correctly rounded. Infinity and NaN stay.
pub(crate) fn scale_by_power_of_two(value: f32, exponent: i32) -> f32 {
    let bits = value.to_bits();
    if bits == 0 || bits >= INFINITE {
        return value;
    }
    let raised = raised(bits);
    let biased = (raised >> 23) as i32 - 149 + exponent;
    let scaled = if biased > 254 {
        INFINITE
    } else if biased < 1 {
        // Rounds to the nearest subnormal number, ties to even.
        let mantissa = (raised & 0x007f_ffff) | LEAST_NORMAL;
        let shift = (1 - biased).min(25) as u32;
        (mantissa + ((1 << (shift - 1)) - 1) + ((mantissa >> shift) & 1)) >> shift
    } else {
        raised.wrapping_sub(((149 - exponent) as u32) << 23)
    };
    f32::from_bits(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of every exponent, with mantissas that round up, down and to even.
    fn values() -> impl Iterator<Item = f32> {
        let mantissas = [0, 1, 2, 3, 0x3f_ffff, 0x40_0000, 0x40_0001, 0x55_5555, 0x7f_fffe, 0x7f_ffff];
        (0..255).flat_map(move |exponent| mantissas.map(|mantissa| f32::from_bits(exponent << 23 | mantissa)))
    }

    /// Two roundings to f32 and one differ in no product of an f32 and a power of two.
    fn product(value: f32, exponent: i32) -> f32 {
        (f64::from(value) * 2f64.powi(exponent)) as f32
    }

    #[test]
    fn the_scaled_number_is_the_rounded_product() {
        for (value, exponent) in values().flat_map(|value| (-253..=253).map(move |exponent| (value, exponent))) {
            let scaled = scale_by_power_of_two(value, exponent);
            assert_eq!(scaled.to_bits(), product(value, exponent).to_bits(), "{value:e} * 2^{exponent}");
        }
        for value in [f32::INFINITY, f32::NAN] {
            assert_eq!(scale_by_power_of_two(value, -3).to_bits(), value.to_bits());
        }
    }

    #[test]
    fn a_scaled_element_is_the_product_or_below_the_normal_range() {
        for (value, exponent) in values().flat_map(|value| (-126..=126).map(move |exponent| (value, exponent))) {
            let (scaled, product) = (scale_element(value.to_bits(), exponent), product(value, exponent));
            let is_right = scaled.to_bits() == product.to_bits() || scaled.max(product) <= f32::MIN_POSITIVE;
            assert!(is_right, "{value:e} * 2^{exponent}: {scaled:e}");
        }
        assert_eq!(scale_element(0, 126), 0.0);
    }
}
