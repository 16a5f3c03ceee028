//! Moments in 8 bits: a code for each number, and a scale that neighbors share.

use super::Dtype;
use super::companded::{
    COMPANDED_LEN, first_moment_bits, first_moment_code, first_moment_code_stochastic, first_moment_factors,
    second_moment_bits, second_moment_code, second_moment_code_stochastic, second_moment_factors,
};
use super::dynamic::{
    DYNAMIC_LEN, SIGNED_ZERO, larger_signed_scale, signed_bits, signed_code, signed_code_stochastic, signed_middle,
    unsigned_bits, unsigned_code, unsigned_code_stochastic, unsigned_middle,
};
use super::scaled::larger_scale;

/// The kind of a state that [`Precision`](crate::Precision) may store in 8 bits. It begins at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// An average of gradients or of updates, with a sign.
    First,
    /// An average of squares, or another denominator of updates: 0 or greater. A number above 0 keeps a code above 0.
    Second,
}

/// The codes of one kind of moment in one format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeMap {
    DynamicSigned,
    DynamicUnsigned,
    CompandedFirst,
    CompandedSecond,
}

impl CodeMap {
    pub(super) const ALL: [Self; 4] =
        [Self::DynamicSigned, Self::DynamicUnsigned, Self::CompandedFirst, Self::CompandedSecond];

    /// The codes of a moment, if that format has any.
    pub(crate) fn new(dtype: Dtype, moment: Moment) -> Option<Self> {
        match (dtype, moment) {
            (Dtype::Dynamic8, Moment::First) => Some(Self::DynamicSigned),
            (Dtype::Dynamic8, Moment::Second) => Some(Self::DynamicUnsigned),
            (Dtype::Companded8, Moment::First) => Some(Self::CompandedFirst),
            (Dtype::Companded8, Moment::Second) => Some(Self::CompandedSecond),
            _ => None,
        }
    }

    /// Numbers that share a scale.
    pub(crate) const fn block_len(self) -> usize {
        match self {
            Self::DynamicSigned | Self::DynamicUnsigned => DYNAMIC_LEN,
            Self::CompandedFirst | Self::CompandedSecond => COMPANDED_LEN,
        }
    }

    /// The code of 0.
    pub(crate) const fn zero(self) -> u8 {
        if let Self::DynamicSigned = self { SIGNED_ZERO as u8 } else { 0 }
    }

    /// Name of the module in `shaders/storage`.
    fn module(self) -> &'static str {
        match self {
            Self::DynamicSigned | Self::DynamicUnsigned => "dynamic",
            Self::CompandedFirst | Self::CompandedSecond => "companded",
        }
    }

    /// Prefix of the functions' names.
    fn prefix(self) -> &'static str {
        match self {
            Self::DynamicSigned => "signed",
            Self::DynamicUnsigned => "unsigned",
            Self::CompandedFirst => "first_moment",
            Self::CompandedSecond => "second_moment",
        }
    }

    fn larger_scale(self) -> &'static str {
        if let Self::DynamicSigned = self { "larger_signed_scale" } else { "larger_scale" }
    }

    fn code_function(self, is_stochastic: bool) -> String {
        format!("{}_code{}", self.prefix(), if is_stochastic { "_stochastic" } else { "" })
    }

    /// Imports of a kernel that reads the numbers.
    pub(crate) fn read_imports(self) -> [String; 2] {
        [format!("{}::{{{}_bits}}", self.module(), self.prefix()), "scaled::{unpack_codes}".to_owned()]
    }

    /// Imports of a kernel that writes the numbers.
    pub(crate) fn write_imports(self, is_stochastic: bool) -> [String; 3] {
        let scale_module = if let Self::DynamicSigned = self { "dynamic" } else { "scaled" };
        [
            format!("{}::{{{}}}", self.module(), self.code_function(is_stochastic)),
            format!("{scale_module}::{{{}}}", self.larger_scale()),
            "scaled::{pack_codes}".to_owned(),
        ]
    }

    /// The f32 bits of the four numbers whose codes `word` holds.
    pub(crate) fn read(self, word: &str, scale: &str) -> String {
        format!("{}_bits(unpack_codes({word}), vec4<u32>({scale}))", self.prefix())
    }

    /// The word of the codes of four numbers, given their f32 bits.
    pub(crate) fn word(self, bits: &str, scale: &str, random: Option<&str>) -> String {
        let random = random.map_or_else(String::new, |random| format!(", {random}"));
        let function = self.code_function(!random.is_empty());
        format!("pack_codes({function}({bits}, vec4<u32>({scale}){random}))")
    }

    /// The largest of the scales of four numbers, given their f32 bits.
    pub(crate) fn scale_of(self, bits: &str) -> String {
        format!("{}(0u, {bits})", self.larger_scale())
    }

    /// The bits of the number of a code.
    pub(super) fn bits(self, code: u32, scale: u32) -> u32 {
        match self {
            Self::DynamicSigned => signed_bits(code, scale),
            Self::DynamicUnsigned => unsigned_bits(code, scale),
            Self::CompandedFirst => first_moment_bits(code, scale),
            Self::CompandedSecond => second_moment_bits(code, scale),
        }
    }

    /// The nearest code.
    pub(super) fn code(self, bits: u32, scale: u32) -> u32 {
        match self {
            Self::DynamicSigned => signed_code(bits, scale),
            Self::DynamicUnsigned => unsigned_code(bits, scale),
            Self::CompandedFirst => first_moment_code(bits, scale),
            Self::CompandedSecond => second_moment_code(bits, scale),
        }
    }

    /// One of the two codes around a number.
    pub(super) fn code_stochastic(self, bits: u32, scale: u32, random: u32) -> u32 {
        match self {
            Self::DynamicSigned => signed_code_stochastic(bits, scale, random),
            Self::DynamicUnsigned => unsigned_code_stochastic(bits, scale, random),
            Self::CompandedFirst => first_moment_code_stochastic(bits, scale, random),
            Self::CompandedSecond => second_moment_code_stochastic(bits, scale, random),
        }
    }

    pub(super) fn is_signed(self) -> bool {
        matches!(self, Self::DynamicSigned | Self::CompandedFirst)
    }

    /// The scale of numbers, given the largest bits of positive and of negative ones.
    pub(super) fn scale(self, positive: u32, negative: u32) -> u32 {
        match self {
            // The scale of a negative number grows with its absolute value.
            Self::DynamicSigned => larger_signed_scale(positive, negative),
            _ => larger_scale(positive, negative),
        }
    }

    /// The code of a number ≥ 0 for a scale of 1, less that of 0.
    pub(super) fn magnitude(self, bits: u32) -> u32 {
        self.code(bits, 1f32.to_bits()) - u32::from(self.zero())
    }

    /// Factors of the number and of the scale whose products are equal in the middle of a magnitude and the next one.
    pub(super) fn middle(self, magnitude: u32) -> [f32; 2] {
        match self {
            Self::DynamicSigned => [1.0, signed_middle(magnitude)],
            Self::DynamicUnsigned => [1.0, unsigned_middle(magnitude)],
            Self::CompandedFirst => first_moment_factors(magnitude),
            Self::CompandedSecond => second_moment_factors(magnitude),
        }
    }

    /// The code of a magnitude with the sign of a number.
    #[inline(always)]
    pub(super) fn with_sign(self, magnitude: u32, bits: u32) -> u32 {
        match self {
            // There is no -1.
            Self::DynamicSigned => {
                SIGNED_ZERO.wrapping_add(signed(magnitude.min(SIGNED_ZERO + 1 - (bits >> 31)), bits))
            }
            Self::CompandedFirst => signed(magnitude, bits) & 0xff,
            Self::DynamicUnsigned | Self::CompandedSecond => self.at_least_one(magnitude, bits),
        }
    }

    /// A second moment above 0 has a code of 1 at least.
    #[inline(always)]
    pub(super) fn at_least_one(self, code: u32, bits: u32) -> u32 {
        if self.is_signed() { code } else { code.max((bits << 1).min(1)) }
    }

    /// The code on the other side of a number, given the nearest one and its number.
    #[inline(always)]
    pub(super) fn far(self, near: u32, of_near: u32, bits: u32) -> u32 {
        let is_longer = bits << 1 > of_near << 1;
        let is_up = is_longer != (self.is_signed() && bits >> 31 == 1);
        match self {
            Self::CompandedFirst => (near + if is_up { 1 } else { 255 }) & 0xff,
            _ if is_up => (near + 1).min(255),
            _ => near.max(1) - 1,
        }
    }
}

/// The magnitude, or what it lacks to 2^32 if the number is negative. Without a branch: signs are unpredictable.
#[inline(always)]
fn signed(magnitude: u32, bits: u32) -> u32 {
    let negative = bits >> 31;
    (magnitude ^ negative.wrapping_neg()).wrapping_add(negative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random_bits;

    /// The mean of the numbers of 200,000 codes lies within five standard errors of the number, between any two codes but
    /// those around 0 of second moments.
    #[test]
    fn stochastic_codes_are_unbiased() {
        let draws = 200_000;
        for map in CodeMap::ALL {
            for (case, scale) in [1f32, 3e-20, 1e-39, 2e30].into_iter().enumerate() {
                let scale = scale.to_bits();
                let number = |code| f64::from(f32::from_bits(map.bits(code, scale)));
                for code in [3, 40, 126, 127, 200] {
                    let (low, high) = (number(code), number((code + 1) & 0xff));
                    // The first moments of companded codes end at 127; below the normal range there are few numbers.
                    if map == CodeMap::CompandedFirst && code == 127 || (high - low).abs() < 1e-42 {
                        continue;
                    }
                    let value = (low + 0.3 * (high - low)) as f32;
                    let codes = (0..draws)
                        .map(|i| map.code_stochastic(value.to_bits(), scale, random_bits(case as u32, code, i)));
                    let far = codes.filter(|&found| found != code).count() as f64 / f64::from(draws);
                    let fraction = (f64::from(value) - low) / (high - low);
                    // Shares have 24 bits, and numbers below the normal range few.
                    let rounding = 1e-6 + f64::from(f32::from_bits(1)) / (high - low).abs();
                    let error = 5.0 * (fraction * (1.0 - fraction) / f64::from(draws)).sqrt() + rounding;
                    assert!((far - fraction).abs() <= error, "{map:?} {code}: {far} for {fraction}");
                }
            }
        }
    }
}
