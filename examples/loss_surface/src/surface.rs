//! The losses on a plane as they are drawn.

use std::fmt;
use std::ops::Range;

use plotters::prelude::*;

use crate::plane::Plane;

/// No loss is drawn below this, so that all have a logarithm.
const LEAST: f64 = 1e-6;

/// What a direction is called.
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) unit: String,
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.unit)
    }
}

pub(crate) struct Surface {
    pub(crate) title: String,
    pub(crate) axes: [Axis; 2],
    pub(crate) ranges: [Range<f64>; 2],
    pub(crate) side: usize,
    /// Base-10 logarithms of the losses, the values of a side by side.
    pub(crate) heights: Vec<f64>,
    /// The path of training, seen on the plane.
    pub(crate) path: Vec<[f64; 2]>,
}

impl Surface {
    pub(crate) fn new(title: String, axes: [Axis; 2], plane: &Plane, losses: &[f32], path: Vec<[f64; 2]>) -> Self {
        // What overflows is as high as anything can be.
        let height = |&loss: &f32| if loss.is_finite() { f64::from(loss).max(LEAST).log10() } else { 38.0 };
        Self {
            title,
            axes,
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

    /// Points along the first direction, and their losses.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let places = (0..self.side).map(|i| self.ranges[0].start + self.step(0) * i as f64);
        places.map(|at| (at, 10_f64.powf(self.height([at, 0.0])))).collect()
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

/// To two digits, so that it is printed with no more.
pub(crate) fn rounded(loss: f64) -> f64 {
    format!("{loss:.1e}").parse().unwrap_or(loss)
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
        let bounds = decades.flat_map(|decade| steps.iter().map(move |step| rounded(step * 10_f64.powi(decade))));
        let bounds = bounds.filter(|bound| low < bound.log10() && bound.log10() < high).collect();
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The heights of a function on a plane of `side` by `side` points.
    pub(crate) fn surface(ranges: [Range<f64>; 2], side: usize, height: impl Fn(f64, f64) -> f64) -> Surface {
        let plane = Plane { origin: &[], directions: &[Vec::new(), Vec::new()], ranges, side };
        let (columns, rows) = (plane.places(0), plane.places(1));
        let heights = rows.iter().flat_map(|b| columns.iter().map(|a| 10_f64.powf(height(*a, *b)) as f32));
        let losses: Vec<f32> = heights.collect();
        let axes = ["a", "b"].map(|name| Axis { name: name.into(), unit: String::new() });
        Surface::new(String::new(), axes, &plane, &losses, Vec::new())
    }

    #[test]
    fn heights_between_the_points_are_those_of_a_bilinear_function() {
        let height = |a: f64, b: f64| 0.3 * a - 0.2 * b + 0.1 * a * b;
        let surface = surface([-1.0..3.0, -2.0..0.0], 5, height);
        for [a, b] in [[-1.0, -2.0], [3.0, 0.0], [0.0, -1.0], [1.3, -0.7], [2.9, -1.9]] {
            let ours = surface.height([a, b]);
            assert!((ours - height(a, b)).abs() < 1e-6, "{ours} at {a}, {b}");
        }
    }

    #[test]
    fn bands_cover_all_surfaces_and_their_bounds_can_be_read() {
        let [low, high] = [-1.6, 0.4].map(|top| surface([0.0..1.0, 0.0..1.0], 5, move |a, _| top * a));
        let bands = Bands::new(&[&low, &high]);
        assert_eq!(bands.bounds[..5], [0.03, 0.05, 0.07, 0.1, 0.15]);
        assert_eq!(bands.bounds.last(), Some(&2.0));
        let edges = bands.edges();
        assert!(edges.is_sorted() && (edges[0] + 1.6).abs() < 1e-6 && (edges[edges.len() - 1] - 0.4).abs() < 1e-6);
        assert_ne!(bands.colour(0), bands.colour(edges.len() - 2));
    }

    #[test]
    fn losses_without_a_logarithm_have_a_height() {
        let plane = Plane { origin: &[], directions: &[Vec::new(), Vec::new()], ranges: [0.0..1.0, 0.0..1.0], side: 2 };
        let axes = ["a", "b"].map(|name| Axis { name: name.into(), unit: String::new() });
        let losses = [0.0, f32::NAN, f32::INFINITY, 1.0];
        assert_eq!(Surface::new(String::new(), axes, &plane, &losses, Vec::new()).heights, [-6.0, 38.0, 38.0, 0.0]);
    }
}
