//! Storage formats of numbers, a file each. Only this folder tells words from numbers.

mod bf16;
mod f16;
mod f32;
mod format;

use format::Format;

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
}

impl Dtype {
    pub(crate) const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// Bytes of `len` numbers.
    pub const fn bytes(self, len: u64) -> u64 {
        match self {
            Self::F32 => 4 * len,
            Self::Bf16 | Self::F16 => 2 * len,
        }
    }

    /// The shader side of the format.
    pub(crate) fn format(self) -> &'static dyn Format {
        match self {
            Self::F32 => &f32::F32,
            Self::Bf16 => &bf16::Bf16,
            Self::F16 => &f16::F16,
        }
    }
}

/// The text of a format's module, by its path below `shaders/`.
pub(crate) fn module(path: &str) -> Option<&'static str> {
    let name = path.strip_prefix("storage/")?;
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

/// Numbers in host memory, in their storage format.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum HostSlice<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [half::bf16]),
    /// IEEE binary16.
    F16(&'a [half::f16]),
}

impl<'a> HostSlice<'a> {
    /// Count of numbers.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The storage format.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::Bf16(_) => Dtype::Bf16,
            Self::F16(_) => Dtype::F16,
        }
    }

    /// Whether kernels read the numbers where they lie.
    pub(crate) fn is_f32(&self) -> bool {
        self.dtype() == Dtype::F32
    }

    /// The numbers of a range as f32: where they lie, or widened into `scratch`.
    pub(crate) fn load<'b>(&self, range: std::ops::Range<usize>, scratch: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::F32(values) => &values[range],
            Self::Bf16(values) => {
                bf16::load(&values[range], scratch);
                scratch
            }
            Self::F16(values) => {
                f16::load(&values[range], scratch);
                scratch
            }
        }
    }
}

macro_rules! from_slices {
    ($($number:ty => $variant:ident),*) => {$(
        impl<'a> From<&'a [$number]> for HostSlice<'a> {
            fn from(values: &'a [$number]) -> Self {
                Self::$variant(values)
            }
        }

        impl<'a> From<&'a Vec<$number>> for HostSlice<'a> {
            fn from(values: &'a Vec<$number>) -> Self {
                Self::$variant(values)
            }
        }

        impl<'a, const N: usize> From<&'a [$number; N]> for HostSlice<'a> {
            fn from(values: &'a [$number; N]) -> Self {
                Self::$variant(values)
            }
        }
    )*};
}

from_slices!(::core::primitive::f32 => F32, half::bf16 => Bf16, half::f16 => F16);
