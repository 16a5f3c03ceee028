//! A splat: its columns, its first values, and its shape on the picture.

use bytemuck::{Pod, Zeroable};

use crate::picture::Picture;

/// Columns of a splat, the row of one tensor.
pub(crate) const COLUMNS: usize = 9;
/// Centre, in pixels.
pub(crate) const X: usize = 0;
pub(crate) const Y: usize = 1;
/// Logarithms of the lengths of both axes, in pixels.
pub(crate) const LOG_LENGTH: usize = 2;
pub(crate) const LOG_WIDTH: usize = 3;
/// Angle of the first axis, in radians.
pub(crate) const ANGLE: usize = 4;
/// Red, green and blue, without bounds.
pub(crate) const COLOUR: usize = 5;
/// Factor of the colour, without bounds.
pub(crate) const OPACITY: usize = 8;

pub(crate) type Splat = [f32; COLUMNS];

/// Learning rate of each column at the beginning, in its unit per step.
pub(crate) const RATES: [f32; COLUMNS] = [0.2, 0.2, 0.06, 0.06, 0.06, 0.02, 0.02, 0.02, 0.02];

/// A weight below which a splat ends. Subtracted from the Gaussian, so that the edge has no step.
pub(crate) const EDGE: f32 = 1.0 / 256.0;
/// `sqrt(2 ln 256)`: the distance of the edge, in standard deviations.
const REACH: f32 = 3.330_218_4;
/// Variance in square pixels that every axis has besides its own: a splat never falls between pixels.
pub(crate) const BLUR: f32 = 0.09;

/// Splats of the first step: a grid over the picture, with the colours below its points.
pub(crate) fn first(target: &Picture, count: usize) -> Vec<Splat> {
    let spacing = ((target.width * target.height) as f32 / count as f32).sqrt();
    let columns = (target.width as f32 / spacing).round().max(1.0) as usize;
    let rows = count.div_ceil(columns);
    let colours = target.colours();
    let splat = |i: usize| {
        let x = ((i % columns) as f32 + 0.5) / columns as f32 * target.width as f32;
        let y = ((i / columns) as f32 + 0.5) / rows as f32 * target.height as f32;
        let [red, green, blue] = colours[y as usize * target.width + x as usize];
        let size = (0.6 * spacing).ln();
        // The sum of weights of a grid is 2 pi (size / spacing)^2.
        [x, y, size, size, 0.0, red, green, blue, 0.44]
    };
    (0..count).map(splat).collect()
}

/// A splat as the kernels use it: `weight = exp(-(u^2 + v^2) / 2) - EDGE` with `u = dot(along, offset)` and `v = dot(across, offset)`.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Shape {
    pub(crate) centre: [f32; 2],
    pub(crate) along: [f32; 2],
    pub(crate) across: [f32; 2],
    /// Standard deviations of both axes.
    pub(crate) axes: [f32; 2],
    /// Opacity times colour.
    pub(crate) light: [f32; 3],
    pad: f32,
    /// First pixel, and the one behind the last, of the box around the splat.
    pub(crate) first: [u32; 2],
    pub(crate) end: [u32; 2],
}

/// CPU reference of `shaders/project.wgsl`.
pub(crate) fn shape(splat: &Splat, size: [u32; 2]) -> Shape {
    let centre = [splat[X], splat[Y]];
    let axes = [LOG_LENGTH, LOG_WIDTH].map(|column| ((2.0 * splat[column]).exp() + BLUR).sqrt());
    let (sine, cosine) = splat[ANGLE].sin_cos();
    let half = [
        REACH * ((axes[0] * cosine).powi(2) + (axes[1] * sine).powi(2)).sqrt(),
        REACH * ((axes[0] * sine).powi(2) + (axes[1] * cosine).powi(2)).sqrt(),
    ];
    let clamp = |value: f32, axis: usize| value.clamp(0.0, size[axis] as f32) as u32;
    Shape {
        centre,
        along: [cosine / axes[0], sine / axes[0]],
        across: [-sine / axes[1], cosine / axes[1]],
        axes,
        light: [0, 1, 2].map(|channel| splat[OPACITY] * splat[COLOUR + channel]),
        pad: 0.0,
        first: [0, 1].map(|axis| clamp((centre[axis] - half[axis]).floor(), axis)),
        end: [0, 1].map(|axis| clamp((centre[axis] + half[axis]).ceil(), axis)),
    }
}

impl Shape {
    /// Coordinates of a pixel's centre in units of the axes, and the Gaussian there.
    #[inline]
    pub(crate) fn at(&self, x: u32, y: u32) -> (f32, f32, f32) {
        let offset = [x as f32 + 0.5 - self.centre[0], y as f32 + 0.5 - self.centre[1]];
        let u = self.along[0] * offset[0] + self.along[1] * offset[1];
        let v = self.across[0] * offset[0] + self.across[1] * offset[1];
        (u, v, (-0.5 * (u * u + v * v)).exp())
    }
}
