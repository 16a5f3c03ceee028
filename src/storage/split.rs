//! An f32 in two halves: the nearest bf16, ties away from zero, and the distance of the bits to it as a 16-bit integer.

pub(super) const WGSL: &str = include_str!("../../shaders/storage/split.wgsl");

/// The f32 bits of both halves. A zero has no smaller magnitude: a negative distance is that of a number the program replaced.
#[inline(always)]
pub(crate) fn split_bits(high: u32, low: i16) -> u32 {
    let is_replaced = high << 1 == 0 && low < 0;
    high.wrapping_add_signed(if is_replaced { 0 } else { low.into() })
}

/// Clears the bit of a NaN whose upper half would be rounded to -0 or 0.
#[inline(always)]
fn with_upper_half(bits: u32) -> u32 {
    let wraps = bits & 0x7fff_ffff >= 0x7fff_8000;
    if wraps { bits & 0xffff_7fff } else { bits }
}

/// The f32 bits of the upper half.
#[inline(always)]
pub(crate) fn split_high(bits: u32) -> u32 {
    (with_upper_half(bits) + 0x8000) & 0xffff_0000
}

/// The lower half.
#[inline(always)]
pub(crate) fn split_low(bits: u32) -> i16 {
    with_upper_half(bits).wrapping_sub(split_high(bits)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every f32 comes back with its bits, but for the NaN whose upper half would wrap: they stay NaN.
    #[test]
    fn both_halves_hold_every_f32() {
        for high in 0..=u16::MAX {
            // All lower halves under some upper ones, the corners under all.
            let every = [0, 1, 0x3f80, 0x7f7f, 0x7f80, 0x7fff, 0x8000, 0xff7f, 0xffff].contains(&high);
            let corners = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
            let lows: Vec<u32> = if every { (0..=0xffff).collect() } else { corners.to_vec() };
            for low in lows {
                let bits = u32::from(high) << 16 | low;
                let joined = split_bits(split_high(bits), split_low(bits));
                if bits & 0x7fff_ffff >= 0x7fff_8000 {
                    assert!(f32::from_bits(joined).is_nan() && f32::from_bits(split_high(bits)).is_nan(), "{bits:#x}");
                    assert_eq!(joined, bits & 0xffff_7fff);
                } else {
                    assert_eq!(joined, bits, "{bits:#x}");
                }
                // The model reads the nearest bf16; ties go away from zero.
                let (value, seen) = (f32::from_bits(bits), f32::from_bits(split_high(bits)));
                let nearest = half::bf16::from_f32(value);
                if low != 0x8000 && !value.is_nan() {
                    assert_eq!(seen, nearest.to_f32(), "{value:e}");
                } else if value.is_finite() {
                    assert_eq!(split_high(bits), bits + 0x8000);
                }
            }
        }
    }

    #[test]
    fn a_parameter_that_the_program_sets_to_zero_is_zero() {
        for low in [i16::MIN, -1] {
            assert_eq!(split_bits(0, low), 0);
            assert_eq!(split_bits(0x8000_0000, low), 0x8000_0000);
        }
        assert_eq!(split_bits(0, 5), 5);
    }
}
