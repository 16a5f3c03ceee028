//! Numbers in host memory, in their storage format.

use std::ops::Range;

use crate::storage::{Dtype, load_bf16, load_f16, store_bf16, store_f16};

macro_rules! host_slices {
    ($($variant:ident($number:ty): $what:literal),* $(,)?) => {
        /// Numbers in host memory, in their storage format.
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[non_exhaustive]
        pub enum HostSlice<'a> {
            $(#[doc = $what] $variant(&'a [$number]),)*
        }

        /// Numbers in host memory that steps change, in their storage format.
        #[derive(Debug, PartialEq)]
        #[non_exhaustive]
        pub enum HostSliceMut<'a> {
            $(#[doc = $what] $variant(&'a mut [$number]),)*
        }

        impl<'a> HostSlice<'a> {
            /// Count of numbers.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(values) => values.len(),)*
                }
            }

            /// The storage format.
            pub fn dtype(&self) -> Dtype {
                match self {
                    $(Self::$variant(_) => Dtype::$variant,)*
                }
            }

            /// The bytes of the numbers, in the order of the machine.
            pub fn bytes(self) -> &'a [u8] {
                match self {
                    $(Self::$variant(values) => bytemuck::cast_slice(values),)*
                }
            }

            /// The numbers of a range; `None` unless there are as many.
            pub fn get(self, range: Range<usize>) -> Option<Self> {
                match self {
                    $(Self::$variant(values) => values.get(range).map(Self::$variant),)*
                }
            }
        }

        impl<'a> HostSliceMut<'a> {
            /// The same numbers, to read.
            pub fn as_slice(&self) -> HostSlice<'_> {
                match self {
                    $(Self::$variant(values) => HostSlice::$variant(values),)*
                }
            }

            /// The same numbers, for a shorter time.
            pub fn reborrow(&mut self) -> HostSliceMut<'_> {
                match self {
                    $(Self::$variant(values) => HostSliceMut::$variant(values),)*
                }
            }

            /// The bytes of the numbers, in the order of the machine.
            pub fn bytes_mut(self) -> &'a mut [u8] {
                match self {
                    $(Self::$variant(values) => bytemuck::cast_slice_mut(values),)*
                }
            }

            /// The numbers of a range, which lies within them.
            pub(crate) fn sub_slice(self, range: Range<usize>) -> Self {
                match self {
                    $(Self::$variant(values) => Self::$variant(&mut values[range]),)*
                }
            }

            /// Splits the first numbers off, as many as there are up to `len`.
            pub(crate) fn take_first(&mut self, len: usize) -> Self {
                match self {
                    $(Self::$variant(values) => {
                        let len = len.min(values.len());
                        let (first, rest) = std::mem::take(values).split_at_mut(len);
                        *values = rest;
                        Self::$variant(first)
                    })*
                }
            }
        }

    };
}

macro_rules! from_slices {
    ($($variant:ident($number:ty)),* $(,)?) => {
        $(
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

            impl<'a> From<&'a mut [$number]> for HostSliceMut<'a> {
                fn from(values: &'a mut [$number]) -> Self {
                    Self::$variant(values)
                }
            }

            impl<'a> From<&'a mut Vec<$number>> for HostSliceMut<'a> {
                fn from(values: &'a mut Vec<$number>) -> Self {
                    Self::$variant(values)
                }
            }

            impl<'a, const N: usize> From<&'a mut [$number; N]> for HostSliceMut<'a> {
                fn from(values: &'a mut [$number; N]) -> Self {
                    Self::$variant(values)
                }
            }
        )*
    };
}

host_slices! {
    F32(f32): "32-bit floats.",
    Bf16(half::bf16): "bfloat16.",
    F16(half::f16): "IEEE binary16.",
    I16(i16): "16-bit integers.",
    Dynamic8(u8): "Codes of [`Dtype::Dynamic8`].",
    Companded8(u8): "Codes of [`Dtype::Companded8`].",
}

from_slices! {
    F32(f32),
    Bf16(half::bf16),
    F16(half::f16),
    I16(i16),
}

impl<'a> HostSlice<'a> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, if they are f32.
    pub fn as_f32(self) -> Option<&'a [f32]> {
        if let Self::F32(values) = self { Some(values) } else { None }
    }

    /// The f32 of the same values; of codes their numbers without the scale.
    pub fn to_f32(self) -> Vec<f32> {
        let mut values = Vec::new();
        self.load(0..self.len(), &mut values).to_vec()
    }

    /// Whether kernels read the numbers where they lie.
    pub(crate) fn is_f32(&self) -> bool {
        self.dtype() == Dtype::F32
    }

    /// The numbers of a range as f32: where they lie, or widened into `scratch`.
    pub(crate) fn load<'b>(&self, range: Range<usize>, scratch: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::F32(values) => return &values[range],
            Self::Bf16(values) => load_bf16(&values[range], scratch),
            Self::F16(values) => load_f16(&values[range], scratch),
            Self::I16(values) => {
                scratch.clear();
                scratch.extend(values[range].iter().map(|&value| f32::from(value)));
            }
            Self::Dynamic8(codes) | Self::Companded8(codes) => {
                scratch.clear();
                scratch.extend(codes[range].iter().map(|&code| f32::from(code)));
            }
        }
        scratch
    }
}

impl<'a> HostSliceMut<'a> {
    /// Count of numbers.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The storage format.
    pub fn dtype(&self) -> Dtype {
        self.as_slice().dtype()
    }

    /// The numbers, if they are f32.
    pub fn into_f32(self) -> Option<&'a mut [f32]> {
        if let Self::F32(values) = self { Some(values) } else { None }
    }

    /// The numbers of a range as f32: where they lie, or widened into `scratch`.
    pub(crate) fn load_mut<'b>(&'b mut self, range: Range<usize>, scratch: &'b mut Vec<f32>) -> &'b mut [f32] {
        match self {
            Self::F32(values) => &mut values[range],
            numbers => {
                numbers.as_slice().load(range, scratch);
                scratch
            }
        }
    }

    /// Cuts the numbers into parts of `len`, the last one shorter.
    pub(crate) fn chunks(mut self, len: usize) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || (!self.is_empty()).then(|| self.take_first(len)))
    }

    /// Replaces the numbers of a range by the nearest to `values`.
    pub(crate) fn store(&mut self, range: Range<usize>, values: &[f32]) {
        match self {
            Self::F32(numbers) => numbers[range].copy_from_slice(values),
            Self::Bf16(numbers) => store_bf16(values, &mut numbers[range]),
            Self::F16(numbers) => store_f16(values, &mut numbers[range]),
            Self::I16(numbers) => {
                numbers[range].iter_mut().zip(values).for_each(|(number, &value)| *number = value as i16);
            }
            Self::Dynamic8(codes) | Self::Companded8(codes) => {
                codes[range].iter_mut().zip(values).for_each(|(code, &value)| *code = value as u8);
            }
        }
    }
}
