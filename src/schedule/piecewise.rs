use super::kind::{Kind, Named, cosine, kind, linear};
use crate::Error;
use crate::error::is_rate;

kind! {
    /// optax's `piecewise_constant_schedule`: `init_value` times the scales of all boundaries up to the step.
    PiecewiseConstant = "piecewise_constant" {
        /// Learning rate of the first steps.
        init_value: f64,
        /// Pairs of a step (ascending, at least 1) and the scale that multiplies the learning rate from that step on.
        boundaries_and_scales: Vec<(u64, f64)>,
    }
}

impl Kind for PiecewiseConstant {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let reached = self.boundaries_and_scales.iter().filter(|(boundary, _)| *boundary <= step);
        Ok(reached.fold(self.init_value, |value, (_, scale)| value * scale))
    }

    fn validate(&self) -> Result<(), Error> {
        validate::<Self>(self.init_value, &self.boundaries_and_scales)
    }
}

/// The interpolation of [`PiecewiseInterpolate`] between boundaries: optax's `interpolate_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum InterpolateType {
    /// Along a line.
    Linear,
    /// Along half a cosine.
    Cosine,
}

#[cfg(feature = "serde")]
crate::number::as_is!(InterpolateType);

kind! {
    /// optax's `piecewise_interpolate_schedule`: at each boundary, `init_value` times all scales so far. Interpolates
    /// between boundaries; constant after the last one.
    PiecewiseInterpolate = "piecewise_interpolate" {
        /// The interpolation between boundaries.
        interpolate_type: InterpolateType,
        /// Learning rate of step 0.
        init_value: f64,
        /// Pairs of a step (ascending, at least 1) and the scale that has multiplied the learning rate once it is
        /// reached.
        boundaries_and_scales: Vec<(u64, f64)>,
    }
}

impl Kind for PiecewiseInterpolate {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let (mut start, mut value) = (0, self.init_value);
        for &(boundary, scale) in &self.boundaries_and_scales {
            let end_value = value * scale;
            if step < boundary {
                let part = step.saturating_sub(start) as f64 / boundary.saturating_sub(start) as f64;
                return Ok(match self.interpolate_type {
                    InterpolateType::Linear => linear(value, end_value, part),
                    InterpolateType::Cosine => cosine(value, end_value, part),
                });
            }
            (start, value) = (boundary, end_value);
        }
        Ok(value)
    }

    fn validate(&self) -> Result<(), Error> {
        validate::<Self>(self.init_value, &self.boundaries_and_scales)
    }
}

fn validate<K: Kind>(init_value: f64, boundaries_and_scales: &[(u64, f64)]) -> Result<(), Error> {
    K::check_rate("init_value", init_value)?;
    let mut start = 0;
    for &(boundary, scale) in boundaries_and_scales {
        let field = "boundaries_and_scales";
        K::check(boundary > start, field, boundary as f64, "ascending steps of 1 or more")?;
        K::check(is_rate(scale), field, scale, "scales of 0 or greater, finite in f32")?;
        start = boundary;
    }
    Ok(())
}
