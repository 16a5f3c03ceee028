use std::ops::Range;

use crate::Error;
use crate::error::check;

/// A change of some columns of every active row after each applied step: see
/// [`Rows::with_projection`](crate::Rows::with_projection).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Projection {
    /// Clamps columns to a range.
    Clamp {
        /// The columns.
        columns: Range<u32>,
        /// Finite.
        min: f32,
        /// Finite, `min` or greater.
        max: f32,
    },
    /// Divides columns by their Euclidean norm: rotations as quaternions. A norm whose square is 0, infinite or NaN in f32
    /// changes nothing.
    UnitNorm {
        /// The columns.
        columns: Range<u32>,
    },
    /// Adds noise of mean 0 to columns: a sum of four 16-bit integers, which is within 0.8 % of the normal distribution
    /// function and at most 3.5 standard deviations from 0. It depends on seed, applied step and element alone.
    Noise {
        /// The columns.
        columns: Range<u32>,
        /// Standard deviation; 0 or greater, finite.
        std: f32,
        /// Any number.
        seed: u32,
    },
}

impl Projection {
    /// Clamps columns to `min..=max`.
    pub fn clamp(columns: Range<u32>, min: f32, max: f32) -> Self {
        Self::Clamp { columns, min, max }
    }

    /// Divides columns by their norm.
    pub fn unit_norm(columns: Range<u32>) -> Self {
        Self::UnitNorm { columns }
    }

    /// Adds noise to columns.
    pub fn noise(columns: Range<u32>, std: f32, seed: u32) -> Self {
        Self::Noise { columns, std, seed }
    }

    pub(crate) fn columns(&self) -> &Range<u32> {
        match self {
            Self::Clamp { columns, .. } | Self::UnitNorm { columns } | Self::Noise { columns, .. } => columns,
        }
    }

    /// # Errors
    /// [`Error::Hyperparameter`] for numbers out of range, and for columns that the tensor lacks.
    pub(crate) fn validate(&self, tensor: &str, columns: u32) -> Result<(), Error> {
        let Range { start, end } = *self.columns();
        let allowed = "at most the tensor's columns, after the first one";
        check(start < end && end <= columns, tensor, "end of the projected columns", end.into(), allowed)?;
        match *self {
            Self::Clamp { min, max, .. } => {
                check(min.is_finite(), tensor, "min", min.into(), "finite numbers")?;
                check(max.is_finite() && max >= min, tensor, "max", max.into(), "finite numbers from min on")
            }
            Self::UnitNorm { .. } => Ok(()),
            Self::Noise { std, .. } => {
                check(std >= 0.0 && std.is_finite(), tensor, "std", std.into(), "0 or greater, finite")
            }
        }
    }

    /// Five words for the device: kind, columns, and two numbers.
    pub(crate) fn words(&self) -> [u32; 5] {
        let Range { start, end } = *self.columns();
        match *self {
            Self::Clamp { min, max, .. } => [CLAMP, start, end, min.to_bits(), max.to_bits()],
            Self::UnitNorm { .. } => [UNIT_NORM, start, end, 0, 0],
            Self::Noise { std, seed, .. } => [NOISE, start, end, std.to_bits(), seed],
        }
    }
}

const CLAMP: u32 = 0;
const UNIT_NORM: u32 = 1;
const NOISE: u32 = 2;
