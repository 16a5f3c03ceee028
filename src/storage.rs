//! Storage formats of numbers, a file each. Only this folder tells words from numbers.

mod bf16;
mod code_table;
mod codes;
mod companded;
mod dynamic;
mod f16;
mod f32;
mod format;
mod i16;
mod master;
mod scaled;
mod split;

pub use codes::Moment;

pub(crate) use bf16::{bf16_nearest, bf16_stochastic, load as load_bf16, store as store_bf16};
pub(crate) use code_table::{load as load_codes, store as store_codes};
pub(crate) use codes::CodeMap;
pub(crate) use f16::{f16_nearest, load as load_f16, store as store_f16};
use format::Format;
pub(crate) use master::master_bits;
pub(crate) use split::{split_bits, split_high, split_low};

/// Bits of an f32 without its sign.
pub(crate) const ABSOLUTE: u32 = 0x7fff_ffff;
/// An f32 is infinite or NaN if the bits of its absolute value reach this.
pub(crate) const INFINITE: u32 = 0x7f80_0000;

/// The storage format of a stream of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16, two to a 32-bit word, the first in its lower half: as a slice of 16-bit numbers lies in the memory of a
    /// little-endian machine.
    Bf16,
    /// IEEE binary16, two to a 32-bit word as bf16.
    F16,
    /// 16-bit integers, two to a 32-bit word: the state that completes parameters of
    /// [`ParamFormat::Bf16Split`](crate::ParamFormat::Bf16Split).
    I16,
    /// 8-bit codes of the dynamic map of bitsandbytes, relative to the largest of 256 numbers.
    Dynamic8,
    /// 8-bit codes that are dense near 0, relative to the largest of 32 numbers (arXiv 2602.23349).
    Companded8,
    /// The scales of [`Dtype::Dynamic8`]: an f32 for 256 numbers.
    F32Per256,
    /// The scales of [`Dtype::Companded8`]: an f32 for 32 numbers.
    F32Per32,
}

impl Dtype {
    /// The formats of single numbers.
    pub(crate) const SINGLE: [Self; 4] = [Self::F32, Self::Bf16, Self::F16, Self::I16];

    /// Bytes of `len` numbers.
    pub const fn bytes(self, len: u64) -> u64 {
        match self {
            Self::F32 => 4 * len,
            Self::Bf16 | Self::F16 | Self::I16 => 2 * len,
            Self::Dynamic8 | Self::Companded8 => len,
            Self::F32Per256 | Self::F32Per32 => 4 * len.div_ceil(self.block_len()),
        }
    }

    /// Bytes per number; of scales the share of a number.
    pub(crate) fn bytes_per_number(self) -> f64 {
        self.bytes(self.block_len()) as f64 / self.block_len() as f64
    }

    /// Numbers that share a scale; 1 for single numbers.
    pub(crate) const fn block_len(self) -> u64 {
        match self {
            Self::F32 | Self::Bf16 | Self::F16 | Self::I16 => 1,
            Self::Dynamic8 | Self::F32Per256 => dynamic::DYNAMIC_LEN as u64,
            Self::Companded8 | Self::F32Per32 => companded::COMPANDED_LEN as u64,
        }
    }

    /// Numbers that the bytes hold.
    pub(crate) fn numbers_in(self, bytes: u64) -> u64 {
        if let Self::F32Per256 | Self::F32Per32 = self { bytes / 4 * self.block_len() } else { bytes / self.bytes(1) }
    }

    /// The format of the scales of codes.
    pub(crate) const fn scale_dtype(self) -> Option<Self> {
        match self {
            Self::Dynamic8 => Some(Self::F32Per256),
            Self::Companded8 => Some(Self::F32Per32),
            _ => None,
        }
    }

    /// The shader side of the format. Codes and scales are read together: see [`CodeMap`].
    pub(crate) fn format(self) -> &'static dyn Format {
        match self {
            Self::Bf16 => &bf16::Bf16,
            Self::F16 => &f16::F16,
            Self::I16 => &i16::I16,
            _ => &f32::F32,
        }
    }

    /// The word that holds `value` as often as it has room.
    pub(crate) fn word_of(self, value: f32) -> u32 {
        match self {
            Self::F32 | Self::F32Per256 | Self::F32Per32 => value.to_bits(),
            Self::Bf16 => (bf16_nearest(value.to_bits()) >> 16) * 0x1_0001,
            Self::F16 => u32::from(half::f16::from_f32(value).to_bits()) * 0x1_0001,
            Self::I16 => u32::from(value as i16 as u16) * 0x1_0001,
            // A code.
            Self::Dynamic8 | Self::Companded8 => u32::from(value as u8) * 0x101_0101,
        }
    }
}

/// The text of a format's module, by its path below `shaders/`.
pub(crate) fn module(path: &str) -> Option<&'static str> {
    let name = path.strip_prefix("storage/")?;
    let of_two_streams = [
        ("companded", companded::WGSL),
        ("dynamic", dynamic::WGSL),
        ("master", master::WGSL),
        ("scaled", scaled::WGSL),
        ("split", split::WGSL),
    ];
    if let Some((_, text)) = of_two_streams.into_iter().find(|(known, _)| *known == name) {
        return Some(text);
    }
    Dtype::SINGLE.into_iter().map(Dtype::format).find(|format| format.name() == name).map(Format::wgsl)
}

/// Maximum streams of a kernel, the length of `shifts` in `shaders/device/chunk.wgsl`.
pub(crate) const MAX_STREAMS: usize = 12;

/// A stream of numbers that kernels bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamSpec {
    /// `param`, `grad`, or the name of a state.
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) access: Access,
    /// The map of 8-bit codes, and the name of the stream with their scales.
    pub(crate) codes: Option<(CodeMap, String)>,
}

/// Access of kernels to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}
