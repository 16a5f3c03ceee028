//! The losses on a plane as they are drawn.

use std::ops::Range;

use plotters::prelude::*;

use crate::plane::Plane;

/// No loss is drawn below this, so that all have a logarithm.
const LEAST: f64 = 1e-6;

pub(crate) struct Surface {
    pub(crate) title: String,
    pub(crate) labels: [String; 2],
    pub(crate) ranges: [Range<f64>; 2],
    pub(crate) side: usize,
    /// Base-10 logarithms of the losses, the values of a side by side.
    pub(crate) heights: Vec<f64>,
    /// The path of training, seen on the plane.
    pub(crate) path: Vec<[f64; 2]>,
}

impl Surface {
    pub(crate) fn new(title: String, labels: [String; 2], plane: &Plane, losses: &[f32], path: Vec<[f64; 2]>) -> Self {
        // What overflows is as high as anything can be.
        let height = |&loss: &f32| if loss.is_finite() { f64::from(loss).max(LEAST).log10() } else { 38.0 };
        Self {
            title,
            labels,
            ranges: plane.ranges.clone(),
            side: plane.side,
            heights: losses.iter().map(height).collect(),
            path,
        }
    }

    /// The distance between two points of the grid.
    pub(crate) fn step(&self, direction: usize) -> f64 {
        (self.ranges[direction].end - self.ranges[direction].start) / (self.side - 1) as f64
    }

    /// The height at any point of the plane, linear between the points of the grid.
    pub(crate) fn height(&self, at: [f64; 2]) -> f64 {
        let place = |direction: usize| {
            let place = (at[direction] - self.ranges[direction].start) / self.step(direction);
            let cell = place.floor().clamp(0.0, (self.side - 2) as f64);
            (cell as usize, place - cell)
        };
        let ((column, x), (row, y)) = (place(0), place(1));
        let height = |column: usize, row: usize| self.heights[row * self.side + column];
        let between = |row| height(column, row) * (1.0 - x) + height(column + 1, row) * x;
        between(row) * (1.0 - y) + between(row + 1) * y
    }
}

/// Bands of losses and their colours, the same for all surfaces of a picture.
pub(crate) struct Bands {
    pub(crate) range: Range<f64>,
    /// Losses at which one band ends and the next begins, rising.
    pub(crate) bounds: Vec<f64>,
}

impl Bands {
    pub(crate) fn new(surfaces: &[&Surface]) -> Self {
        let heights = || surfaces.iter().flat_map(|surface| surface.heights.iter().copied());
        let (low, high) = (heights().fold(f64::MAX, f64::min), heights().fold(f64::MIN, f64::max));
        let steps: &[f64] = if high - low > 3.0 { &[1.0, 3.0] } else { &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0] };
        let decades = low.floor() as i32..=high.floor() as i32;
        let bounds = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
        let bounds = bounds.filter(|bound| (low..high).contains(&bound.log10())).collect();
        Self { range: low..high, bounds }
    }

    /// From the lowest loss to the highest, in logarithms.
    pub(crate) fn edges(&self) -> Vec<f64> {
        let inner = self.bounds.iter().map(|bound| bound.log10());
        [self.range.start].into_iter().chain(inner).chain([self.range.end]).collect()
    }

    /// The colour of one band.
    pub(crate) fn colour(&self, band: usize) -> RGBColor {
        let edges = self.edges();
        self.colour_at(f64::midpoint(edges[band], edges[band + 1]))
    }

    /// Viridis, which colour-blind eyes read as others do: the darker, the lower.
    pub(crate) fn colour_at(&self, height: f64) -> RGBColor {
        let Range { start, end } = self.range;
        if start < end { ViridisRGB::get_color_normalized(height.clamp(start, end), start, end) } else { BLACK }
    }
}
