//! Storage formats of numbers, a file each. Only this folder tells words from numbers.

mod bf16;
#[expect(dead_code, reason = "no state is stored in it yet")]
mod companded;
#[expect(dead_code, reason = "no state is stored in it yet")]
mod dynamic;
mod f16;
mod f32;
mod format;
mod i16;
mod master;
#[expect(dead_code, reason = "no state is stored in it yet")]
mod scaled;
mod split;

pub(crate) use bf16::{bf16_nearest, bf16_stochastic, load as load_bf16, store as store_bf16};
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
}

impl Dtype {
    pub(crate) const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::F16, Self::I16];

    /// Bytes of `len` numbers.
    pub const fn bytes(self, len: u64) -> u64 {
        match self {
            Self::F32 => 4 * len,
            Self::Bf16 | Self::F16 | Self::I16 => 2 * len,
        }
    }

    /// The shader side of the format.
    pub(crate) fn format(self) -> &'static dyn Format {
        match self {
            Self::F32 => &f32::F32,
            Self::Bf16 => &bf16::Bf16,
            Self::F16 => &f16::F16,
            Self::I16 => &i16::I16,
        }
    }

    /// The word that holds `value` as often as it has room.
    pub(crate) fn word_of(self, value: f32) -> u32 {
        match self {
            Self::F32 => value.to_bits(),
            Self::Bf16 => (bf16_nearest(value.to_bits()) >> 16) * 0x1_0001,
            Self::F16 => u32::from(half::f16::from_f32(value).to_bits()) * 0x1_0001,
            Self::I16 => u32::from(value as i16 as u16) * 0x1_0001,
        }
    }
}

/// The text of a format's module, by its path below `shaders/`.
pub(crate) fn module(path: &str) -> Option<&'static str> {
    let name = path.strip_prefix("storage/")?;
    let of_two_streams = [("master", master::WGSL), ("split", split::WGSL)];
    if let Some((_, text)) = of_two_streams.into_iter().find(|(known, _)| *known == name) {
        return Some(text);
    }
    Dtype::ALL.into_iter().map(Dtype::format).find(|format| format.name() == name).map(Format::wgsl)
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
}

/// Access of kernels to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}
