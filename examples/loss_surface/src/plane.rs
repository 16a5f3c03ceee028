//! A plane through the parameters of a network, and the loss at its points.

mod cpu;
mod gpu;

use std::ops::Range;

use crate::Result;
use examples_common::device::Device;
use mlp_mnist::data::Examples;
use mlp_mnist::model::{Linear, Model};

/// `θ(a, b) = origin + a · directions[0] + b · directions[1]`, at `side` values of a and of b.
#[derive(Debug)]
pub(crate) struct Plane<'a> {
    pub(crate) origin: &'a [f32],
    pub(crate) directions: &'a [Vec<f32>; 2],
    /// Of a and of b, ends included.
    pub(crate) ranges: [Range<f64>; 2],
    /// At least 2.
    pub(crate) side: usize,
}

impl Plane<'_> {
    /// The values along one of the two directions.
    pub(crate) fn places(&self, direction: usize) -> Vec<f64> {
        let Range { start, end } = self.ranges[direction];
        (0..self.side).map(|i| start + (end - start) * (i as f64 / (self.side - 1) as f64)).collect()
    }

    /// The three vectors that the plane is made of.
    fn vectors(&self) -> [&[f32]; 3] {
        [self.origin, &self.directions[0], &self.directions[1]]
    }

    /// The mean cross-entropy in nats at every point, the values of a side by side.
    pub(crate) fn losses(&self, device: &Device, model: &Model, examples: &Examples) -> Result<Vec<f32>> {
        let [hidden, last] = model.layers.as_slice() else {
            return Err(format!("the surface is that of one hidden layer, not {}", model.layers.len() - 1).into());
        };
        let layers = Layers { hidden, last };
        match device {
            Device::Cpu => Ok(cpu::losses(self, layers, examples)),
            Device::Gpu(gpu) => gpu::losses(gpu, self, layers, examples),
        }
    }
}

#[derive(Clone, Copy)]
struct Layers<'a> {
    hidden: &'a Linear,
    last: &'a Linear,
}

/// Pixels from 0 to 1.
fn pixels(examples: &Examples) -> Vec<f32> {
    examples.images.iter().map(|&pixel| f32::from(pixel) / 255.0).collect()
}
