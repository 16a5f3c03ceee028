//! Parameters and gradients in host memory, in their storage format.

use wgpu_optim::half::{bf16, f16};
use wgpu_optim::{Dtype, HostSlice, HostSliceMut};

/// An error that names the format.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A number that the network reads as f32 and writes as the nearest of its format.
pub trait Number: Copy + Into<f32> + Send + Sync {
    /// Ties to even; infinite where the format has no number so large.
    fn nearest(value: f32) -> Self;
}

impl Number for f32 {
    fn nearest(value: f32) -> Self {
        value
    }
}

impl Number for bf16 {
    fn nearest(value: f32) -> Self {
        Self::from_f32(value)
    }
}

impl Number for f16 {
    fn nearest(value: f32) -> Self {
        Self::from_f32(value)
    }
}

/// Numbers of one format.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
}

/// Evaluates an expression with the vector of [`Numbers`], whatever its format.
#[macro_export]
macro_rules! with_vector {
    ($numbers:expr, $vector:ident => $value:expr) => {
        match $numbers {
            $crate::numbers::Numbers::F32($vector) => $value,
            $crate::numbers::Numbers::Bf16($vector) => $value,
            $crate::numbers::Numbers::F16($vector) => $value,
        }
    };
}
pub use crate::with_vector;

impl Numbers {
    /// The nearest numbers of a format.
    ///
    /// # Errors
    /// A format of integers.
    pub fn nearest(dtype: Dtype, values: &[f32]) -> Result<Self> {
        fn each<T: Number>(values: &[f32]) -> Vec<T> {
            values.iter().map(|&value| T::nearest(value)).collect()
        }
        Ok(match dtype {
            Dtype::F32 => Self::F32(each(values)),
            Dtype::Bf16 => Self::Bf16(each(values)),
            Dtype::F16 => Self::F16(each(values)),
            other => return Err(format!("the network has no kernels for parameters or gradients of {other:?}").into()),
        })
    }

    pub fn as_slice(&self) -> HostSlice<'_> {
        with_vector!(self, vector => vector.into())
    }

    pub fn as_mut(&mut self) -> HostSliceMut<'_> {
        with_vector!(self, vector => vector.into())
    }

    pub fn to_f32(&self) -> Vec<f32> {
        self.as_slice().to_f32()
    }
}
