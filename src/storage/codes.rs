//! Moments in 8 bits: a code for each number, and a scale that neighbors share.

use super::Dtype;
use super::companded::{
    COMPANDED_LEN, first_moment_bits, first_moment_code, first_moment_code_stochastic, second_moment_bits,
    second_moment_code, second_moment_code_stochastic,
};
use super::dynamic::{
    DYNAMIC_LEN, SIGNED_ZERO, larger_signed_scale, signed_bits, signed_code, signed_code_stochastic, unsigned_bits,
    unsigned_code, unsigned_code_stochastic,
};
use super::scaled::larger_scale;
use crate::simd::vectorized;

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

    /// Replaces `values` by the numbers of codes from element `start` on.
    pub(crate) fn load(self, codes: &[u8], scales: &[f32], start: usize, values: &mut Vec<f32>) {
        values.resize(codes.len(), 0.0);
        let mut at = 0;
        while at < codes.len() {
            let element = start + at;
            let end = codes.len().min(at + self.block_len() - element % self.block_len());
            let scale = scales[element / self.block_len()].to_bits();
            self.load_block(&codes[at..end], scale, &mut values[at..end]);
            at = end;
        }
    }

    fn load_block(self, codes: &[u8], scale: u32, values: &mut [f32]) {
        match self {
            Self::DynamicSigned => load_block(codes, scale, values, signed_bits),
            Self::DynamicUnsigned => load_block(codes, scale, values, unsigned_bits),
            Self::CompandedFirst => load_block(codes, scale, values, first_moment_bits),
            Self::CompandedSecond => load_block(codes, scale, values, second_moment_bits),
        }
    }

    /// Replaces codes and scales by those of `values`, which begin a block. With random bits rounding is stochastic.
    pub(crate) fn store(self, values: &[f32], random: Option<&[u32]>, codes: &mut [u8], scales: &mut [f32]) {
        let len = self.block_len();
        let blocks = values.chunks(len).zip(codes.chunks_mut(len)).zip(scales).enumerate();
        for (block, ((values, codes), scale)) in blocks {
            let random = random.map(|bits| &bits[block * len..][..values.len()]);
            *scale = f32::from_bits(self.store_block(values, random, codes));
        }
    }

    /// Returns the scale.
    fn store_block(self, values: &[f32], random: Option<&[u32]>, codes: &mut [u8]) -> u32 {
        match (self, random) {
            (Self::DynamicSigned, None) => store_nearest(values, codes, larger_signed_scale, signed_code),
            (Self::DynamicUnsigned, None) => store_nearest(values, codes, larger_scale, unsigned_code),
            (Self::CompandedFirst, None) => store_nearest(values, codes, larger_scale, first_moment_code),
            (Self::CompandedSecond, None) => store_nearest(values, codes, larger_scale, second_moment_code),
            (Self::DynamicSigned, Some(random)) => {
                store_stochastic(values, random, codes, larger_signed_scale, signed_code_stochastic)
            }
            (Self::DynamicUnsigned, Some(random)) => {
                store_stochastic(values, random, codes, larger_scale, unsigned_code_stochastic)
            }
            (Self::CompandedFirst, Some(random)) => {
                store_stochastic(values, random, codes, larger_scale, first_moment_code_stochastic)
            }
            (Self::CompandedSecond, Some(random)) => {
                store_stochastic(values, random, codes, larger_scale, second_moment_code_stochastic)
            }
        }
    }
}

#[inline(always)]
fn load_block(codes: &[u8], scale: u32, values: &mut [f32], bits: impl Fn(u32, u32) -> u32) {
    let pairs = values.iter_mut().zip(codes);
    vectorized(
        #[inline(always)]
        || pairs.for_each(|(value, &code)| *value = f32::from_bits(bits(code.into(), scale))),
    );
}

#[inline(always)]
fn scale_of(values: &[f32], larger_scale: impl Fn(u32, u32) -> u32) -> u32 {
    vectorized(
        #[inline(always)]
        || values.iter().fold(0, |scale, value| larger_scale(scale, value.to_bits())),
    )
}

#[inline(always)]
fn store_nearest(
    values: &[f32],
    codes: &mut [u8],
    larger_scale: impl Fn(u32, u32) -> u32,
    code_of: impl Fn(u32, u32) -> u32,
) -> u32 {
    let scale = scale_of(values, larger_scale);
    let pairs = codes.iter_mut().zip(values);
    vectorized(
        #[inline(always)]
        || pairs.for_each(|(code, value)| *code = code_of(value.to_bits(), scale) as u8),
    );
    scale
}

#[inline(always)]
fn store_stochastic(
    values: &[f32],
    random: &[u32],
    codes: &mut [u8],
    larger_scale: impl Fn(u32, u32) -> u32,
    code_of: impl Fn(u32, u32, u32) -> u32,
) -> u32 {
    let scale = scale_of(values, larger_scale);
    let pairs = codes.iter_mut().zip(values).zip(random);
    vectorized(
        #[inline(always)]
        || pairs.for_each(|((code, value), &random)| *code = code_of(value.to_bits(), scale, random) as u8),
    );
    scale
}
