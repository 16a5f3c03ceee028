//! Numbers of 8 bits that share a scale: codes, levels, and their bounds.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::scaled::larger_scale;
use crate::{companded, dynamic};

/// A word of four codes, the first in its lowest byte.
pub fn pack_codes(codes: [u32; 4]) -> u32 {
    codes[0] | (codes[1] << 8) | (codes[2] << 16) | (codes[3] << 24)
}

/// The four codes of a word.
pub fn unpack_codes(word: u32) -> [u32; 4] {
    [0, 8, 16, 24].map(|shift| (word >> shift) & 0xff)
}

/// A coding of numbers relative to a scale.
#[derive(Clone, Copy)]
pub struct Coding {
    pub name: &'static str,
    pub code: fn(u32, u32) -> u32,
    pub bits: fn(u32, u32) -> u32,
    pub larger_scale: fn(u32, u32) -> u32,
    /// Numbers with one scale.
    pub len: usize,
    pub is_signed: bool,
    /// To where the nearest code is chosen.
    pub compand: fn(f64) -> f64,
}

pub const SIGNED: Coding = Coding {
    name: "signed",
    code: dynamic::signed_code,
    bits: dynamic::signed_bits,
    larger_scale: dynamic::larger_signed_scale,
    len: dynamic::DYNAMIC_LEN,
    is_signed: true,
    compand: |x| x,
};
/// With the scale of bitsandbytes.
pub const PLAIN_SIGNED: Coding = Coding { larger_scale, ..SIGNED };
pub const UNSIGNED: Coding = Coding {
    name: "unsigned",
    code: dynamic::unsigned_code,
    bits: dynamic::unsigned_bits,
    larger_scale,
    is_signed: false,
    ..SIGNED
};
pub const FIRST_MOMENT: Coding = Coding {
    name: "first_moment",
    code: companded::first_moment_code,
    bits: companded::first_moment_bits,
    larger_scale,
    len: companded::COMPANDED_LEN,
    is_signed: true,
    compand: |x| 2.0 * x / (1.0 + x.abs()),
};
pub const SECOND_MOMENT: Coding = Coding {
    name: "second_moment",
    code: companded::second_moment_code,
    bits: companded::second_moment_bits,
    is_signed: false,
    compand: f64::sqrt,
    ..FIRST_MOMENT
};
pub const CODINGS: [Coding; 4] = [SIGNED, UNSIGNED, FIRST_MOMENT, SECOND_MOMENT];

impl Coding {
    pub fn encode(&self, value: f32, scale: f32) -> u32 {
        (self.code)(value.to_bits(), scale.to_bits())
    }

    pub fn decode(&self, code: u32, scale: f32) -> f32 {
        f32::from_bits((self.bits)(code, scale.to_bits()))
    }

    /// Codes that a number can get: 0x80 is no first moment.
    pub fn codes(&self) -> impl Iterator<Item = u32> {
        let unused = (self.name == "first_moment").then_some(0x80);
        (0..256).filter(move |&code| Some(code) != unused)
    }

    /// Replaces numbers by what is left of them.
    pub fn store(&self, values: &mut [f32]) {
        for values in values.chunks_mut(self.len) {
            let scale = values.iter().fold(0, |scale, value| (self.larger_scale)(scale, value.to_bits()));
            let scale = f32::from_bits(scale);
            for value in values {
                *value = self.decode(self.encode(*value, scale), scale);
            }
        }
    }
}

pub fn scale_of(values: &[f32]) -> f32 {
    f32::from_bits(values.iter().fold(0, |scale, value| larger_scale(scale, value.to_bits())))
}

/// Scales of every exponent, subnormal ones included.
pub fn scales() -> impl Iterator<Item = f32> {
    let normal = (1..255).flat_map(|exponent| [0, 1, 0x2a_aaaa, 0x7f_ffff].map(|mantissa| exponent << 23 | mantissa));
    normal.chain([1, 2, 3, 255, 0x1234, 0x40_0000, 0x7f_ffff]).map(f32::from_bits)
}

/// Numbers of all sizes from 2^-40 of a scale on to the scale.
pub fn values(coding: &Coding, scale: f32, random: &mut StdRng) -> f32 {
    let size = (f64::from(scale) * 2f64.powf(random.random_range(-40.0..0.0))) as f32;
    let sign = if coding.is_signed && random.random() { -1.0 } else { 1.0 };
    sign * size.min(scale)
}

#[test]
fn the_map_rises_from_below_one_to_one() {
    let signed: Vec<f32> = (0..256).map(|code| SIGNED.decode(code, 1.0)).collect();
    let unsigned: Vec<f32> = (0..256).map(|code| UNSIGNED.decode(code, 1.0)).collect();
    for map in [&signed, &unsigned] {
        assert!(map.is_sorted_by(|a, b| a < b) && map.contains(&0.0) && map.contains(&1.0));
        let bytes: Vec<u8> = map.iter().flat_map(|level| level.to_le_bytes()).collect();
        let expected = if map[0] == 0.0 { 0xe871_278f } else { 0x1b13_7aeb };
        assert_eq!(crc32fast::hash(&bytes), expected, "the bits of {} levels", map.len());
    }
    // The signed map has no -1.
    assert_eq!((signed[0], signed[127], unsigned[0]), (-0.992_968_74, 0.0, 0.0));
}

#[test]
fn a_decoded_number_has_its_code() {
    for coding in CODINGS {
        for scale in scales() {
            for code in coding.codes() {
                let value = coding.decode(code, scale);
                let again = coding.encode(value, scale);
                let what = format!("{} {code} of {scale:e}: {value:e}", coding.name);
                if value.is_normal() || code == coding.encode(0.0, scale) {
                    assert_eq!(again, code, "{what}");
                } else {
                    // Several codes may stand for one subnormal number.
                    let unit = f32::from_bits(1);
                    assert!((coding.decode(again, scale) - value).abs() <= unit, "{what}: code {again}");
                }
            }
        }
    }
}

/// The product in f32, except that two roundings differ from one in subnormal products.
#[test]
fn a_decoded_number_is_the_level_times_the_scale() {
    for coding in CODINGS {
        for code in coding.codes() {
            let level = f64::from(coding.decode(code, 1.0));
            for scale in scales() {
                let (value, exact) = (coding.decode(code, scale), (level * f64::from(scale)) as f32);
                let is_near = (value - exact).abs() <= f32::from_bits(1) && exact.abs() < f32::MIN_POSITIVE;
                assert!(
                    value.to_bits() == exact.to_bits() || is_near,
                    "{} {code} of {scale:e}: {value:e}",
                    coding.name
                );
            }
        }
    }
}

/// Levels are those of the formula but for the rounding to fixed point.
#[test]
fn the_levels_are_companded() {
    for code in 0..=127u32 {
        let level = f64::from(FIRST_MOMENT.decode(code, 1.0));
        assert!((level - f64::from(code) / f64::from(254 - code)).abs() <= 2f64.powi(-25), "{code}: {level}");
        assert_eq!(FIRST_MOMENT.decode((256 - code) % 256, 1.0), -(level as f32));
    }
    for code in 0..=255u32 {
        let level = f64::from(SECOND_MOMENT.decode(code, 1.0));
        assert!((level - f64::from(code * code) / 65_025.0).abs() <= 2f64.powi(-25), "{code}: {level}");
    }
    // A byte of -128 comes from no number.
    assert_eq!(FIRST_MOMENT.decode(0x80, 3.0), -3.0);
}

/// Of all codes, the chosen one is nearest in the domain of the coding, up to a rounding of the number.
#[test]
fn codes_are_the_nearest_ones() {
    let mut random = StdRng::seed_from_u64(8);
    for coding in CODINGS {
        let levels: Vec<f64> = (0..256).map(|code| (coding.compand)(f64::from(coding.decode(code, 1.0)))).collect();
        for scale in scales().filter(|scale| scale.is_normal()) {
            for _ in 0..50 {
                let value = values(&coding, scale, &mut random);
                let code = coding.encode(value, scale);
                let exact = (coding.compand)(f64::from(value) / f64::from(scale));
                let nearest = coding.codes().map(|code| (levels[code as usize] - exact).abs()).fold(1.0, f64::min);
                let distance = (levels[code as usize] - exact).abs();
                // A level of the second moments has an error of 2^-25, the smallest above 0 is 2^-16.
                let rounding = 1e-6 * exact.abs() + if coding.name == "second_moment" { 1e-5 } else { 1e-7 };
                let is_raised = !coding.is_signed && code == 1;
                assert!(distance <= nearest + rounding || is_raised, "{} {value:e} of {scale:e}: {code}", coding.name);
            }
        }
    }
}

/// A second moment of 0 beside a momentum is a step of momentum / eps.
#[test]
fn no_second_moment_above_0_becomes_0() {
    for coding in [UNSIGNED, SECOND_MOMENT] {
        for scale in [1.0, 3e38, 1e-20] {
            for value in [scale * 1e-7, scale * 1e-17, f32::MIN_POSITIVE, f32::from_bits(1)] {
                assert_eq!(coding.encode(value, scale), 1, "{} {value:e} of {scale:e}", coding.name);
                assert!(coding.decode(1, scale) >= value);
            }
            assert_eq!((coding.encode(0.0, scale), coding.encode(-0.0, scale)), (0, 0));
        }
    }
    // Gradients of 1 and 1e-4, the moments of a first step: with a code of 0 the small one moved by 1e-5 / 1e-8.
    for (coding, [m, v]) in [(UNSIGNED, [1e-5f32, 1e-11]), (SECOND_MOMENT, [1e-5, 1e-11])] {
        let stored = coding.decode(coding.encode(v, 1e-3), 1e-3);
        assert!(m / (stored.sqrt() + 1e-8) <= m / v.sqrt(), "{}: {stored:e}", coding.name);
    }
}

#[test]
fn the_largest_number_stays() {
    for coding in CODINGS {
        for scale in scales() {
            assert_eq!(coding.decode(coding.encode(scale, scale), scale), scale, "{}", coding.name);
        }
    }
    for scale in scales() {
        assert_eq!(FIRST_MOMENT.decode(FIRST_MOMENT.encode(-scale, scale), scale), -scale);
    }
    assert_eq!(SIGNED.decode(SIGNED.encode(-1.0, 1.0), 1.0), -0.992_968_74);
}

/// A slow average whose largest number is negative, in codes in between. Little is left of it where the scale is the
/// largest absolute value.
#[test]
fn averages_of_negative_numbers_grow() {
    for coding in [SIGNED, FIRST_MOMENT, PLAIN_SIGNED] {
        for grad in [1.0, -1.0] {
            let (mut average, mut exact) = (vec![0.0; coding.len], 0.0f32);
            for _ in 0..3_000 {
                for average in &mut average {
                    *average = 0.9999 * *average + 1e-4 * grad;
                }
                coding.store(&mut average);
                exact = 0.9999 * exact + 1e-4 * grad;
            }
            let share = average[0] / exact;
            let is_lost =
                coding.name == "signed" && (coding.larger_scale)(0, (-1f32).to_bits()) == 1f32.to_bits() && grad < 0.0;
            let is_right = if is_lost { share < 0.1 } else { (share - 1.0).abs() < 1e-3 };
            assert!(is_right, "{}: {} for {exact}", coding.name, average[0]);
        }
    }
    let signed_scale = |value: f32| f32::from_bits(dynamic::larger_signed_scale(0, value.to_bits()));
    for scale in scales() {
        let stretched = signed_scale(-scale);
        assert!(
            stretched >= scale && stretched.is_finite() && signed_scale(scale) == scale,
            "{scale:e}: {stretched:e}"
        );
        let decoded = SIGNED.decode(SIGNED.encode(-scale, stretched), stretched);
        let is_cut = scale > f32::MAX / 1.0071;
        assert!((decoded / -scale - 1.0).abs() < 2e-7 || scale < 1e-30 || is_cut, "{scale:e}: {decoded:e}");
    }
    assert!(signed_scale(f32::NEG_INFINITY).is_infinite() && signed_scale(-f32::NAN).is_nan());
}

#[test]
fn zeros_stay_and_nan_spreads() {
    for coding in CODINGS {
        let zero = coding.encode(0.0, 0.0);
        assert_eq!((zero, coding.decode(zero, 0.0).to_bits()), (coding.encode(0.0, 1.0), 0), "{}", coding.name);
        assert_eq!((coding.encode(-0.0, 1.0), coding.decode(zero, 1.0).to_bits()), (zero, 0), "{}", coding.name);
        for (scale, code) in
            [f32::NAN, -f32::NAN, f32::INFINITY].into_iter().flat_map(|scale| (0..256).map(move |code| (scale, code)))
        {
            let scale = scale_of(&[1.0, scale, 2.0]);
            assert!(coding.decode(code, scale).is_nan(), "{} {code} of {scale}", coding.name);
        }
        assert_eq!(scale_of(&[-3.0, 2.0]), 3.0);
    }
}

#[test]
fn four_codes_fill_a_word() {
    assert_eq!(pack_codes([1, 2, 3, 255]).to_le_bytes(), [1, 2, 3, 255]);
    assert_eq!(unpack_codes(0xff03_0201), [1, 2, 3, 255]);
}
