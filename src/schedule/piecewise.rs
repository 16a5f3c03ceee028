use super::kind::{Kind, Named, cosine, kind, linear};
use crate::Error;
use crate::error::is_rate;

kind! {
    /// optax's `piecewise_constant_schedule`: `init_value` times the scales of all boundaries that are reached.
    PiecewiseConstant = "piecewise_constant" {
        /// Learning rate of the first steps.
        init_value: f64,
        /// Steps, ascending and at least 1, and what the learning rate is multiplied by from each on.
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

/// How [`PiecewiseInterpolate`] goes from one boundary to the next: optax's `interpolate_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum InterpolateType {
    /// Along a line.
    Linear,
    /// Along half a cosine.
    Cosine,
}

kind! {
    /// optax's `piecewise_interpolate_schedule`: at each boundary `init_value` times all scales so far, between boundaries
    /// what lies between, and the last value from the last boundary on.
    PiecewiseInterpolate = "piecewise_interpolate" {
        /// The way from one boundary to the next.
        interpolate_type: InterpolateType,
        /// Learning rate of step 0.
        init_value: f64,
        /// Steps, ascending and at least 1, and what the learning rate is multiplied by on the way to each.
        boundaries_and_scales: Vec<(u64, f64)>,
    }
}

impl Kind for PiecewiseInterpolate {
    fn lr(&self, step: u64) -> Result<f64, Error> {
        let (mut start, mut value) = (0, self.init_value);
        for &(boundary, scale) in &self.boundaries_and_scales {
            let end_value = value * scale;
            if step < boundary {
                let part = (step - start) as f64 / (boundary - start) as f64;
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
        K::check(boundary > start, field, boundary as f64, "steps that ascend, from 1 on")?;
        K::check(is_rate(scale), field, scale, "scales of 0 or greater, finite in f32")?;
        start = boundary;
    }
    Ok(())
}
