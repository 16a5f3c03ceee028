//! A surface from above: filled contours, and the path of training on them.

use contour::ContourBuilder;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::surface::{Bands, Surface};
use examples_common::picture::PALETTE;

/// A closed line with the band that lies inside it.
struct Ring {
    points: Vec<(f64, f64)>,
    band: usize,
}

impl Ring {
    /// By the shoelace formula.
    fn area(&self) -> f64 {
        let next = self.points.iter().cycle().skip(1);
        let sum: f64 = self.points.iter().zip(next).map(|(a, b)| a.0 * b.1 - b.0 * a.1).sum();
        sum.abs() / 2.0
    }
}

/// The borders of the bands, every one before those inside it, so that they can be painted in this order.
fn rings(surface: &Surface, bands: &Bands) -> Result<Vec<Ring>> {
    let [x, y] = &surface.ranges;
    let edges = bands.edges();
    // The crate takes a point of the grid for the middle of a cell, which begins half a step before.
    let contours = ContourBuilder::new(surface.side, surface.side, true)
        .x_origin(x.start - surface.step(0) / 2.0)
        .y_origin(y.start - surface.step(1) / 2.0)
        .x_step(surface.step(0))
        .y_step(surface.step(1))
        .contours(&surface.heights, &edges[..edges.len() - 1])?;
    let mut rings = Vec::new();
    for (band, contour) in contours.iter().enumerate() {
        for polygon in contour.geometry() {
            // No loss lies below the lowest edge.
            let inner = polygon.interiors().iter().map(|ring| (ring, band - 1));
            for (ring, band) in [(polygon.exterior(), band)].into_iter().chain(inner) {
                let points = ring.points().map(|at| (at.x().clamp(x.start, x.end), at.y().clamp(y.start, y.end)));
                rings.push(Ring { points: points.collect(), band });
            }
        }
    }
    rings.sort_by(|a, b| b.area().total_cmp(&a.area()));
    Ok(rings)
}

pub(crate) fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, surface: &Surface, bands: &Bands) -> Result<()>
where
    B::ErrorType: 'static,
{
    let [x, y] = &surface.ranges;
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption(&surface.title, ("sans-serif", 19))
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d(x.clone(), y.clone())?;
    for ring in rings(surface, bands)? {
        chart.draw_series([Polygon::new(ring.points, bands.colour(ring.band).filled())])?;
    }
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc(surface.axes[0].to_string())
        .y_desc(surface.axes[1].to_string())
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 16))
        .draw()?;
    let path: Vec<_> = surface.path.iter().map(|&[a, b]| (a, b)).collect();
    let colour = PALETTE[1];
    chart.draw_series(LineSeries::new(path.iter().copied(), WHITE.stroke_width(4)))?;
    chart.draw_series(LineSeries::new(path.iter().copied(), colour.stroke_width(2)))?;
    chart.draw_series(path.iter().map(|&at| Circle::new(at, 3, WHITE.filled())))?;
    chart.draw_series(path.iter().map(|&at| Circle::new(at, 2, colour.filled())))?;
    // The trained network.
    chart.draw_series([Circle::new((0.0, 0.0), 5, WHITE.filled()), Circle::new((0.0, 0.0), 3, BLACK.filled())])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surface::tests::surface;

    impl Ring {
        /// By the number of crossings to the right.
        fn contains(&self, x: f64, y: f64) -> bool {
            let next = self.points.iter().cycle().skip(1);
            let crossed = self
                .points
                .iter()
                .zip(next)
                .filter(|(a, b)| (a.1 > y) != (b.1 > y) && x < a.0 + (y - a.1) / (b.1 - a.1) * (b.0 - a.0));
            crossed.count() % 2 == 1
        }
    }

    /// A moat around a hill with a hollow in it, and two pits: bands lie in holes of others.
    #[test]
    fn what_is_painted_last_at_a_point_is_its_band() {
        let height = |a: f64, b: f64| (3.0 * a.hypot(b)).cos() + 0.3 * a + 0.1 * b;
        let surface = surface([-2.0..2.0, -1.0..3.0], 81, height);
        let bands = Bands::new(&[&surface]);
        let (rings, edges) = (rings(&surface, &bands).expect("rings"), bands.edges());
        let mut seen = vec![0; edges.len() - 1];
        for i in 0..40 * 40 {
            let [a, b] = [-1.95 + 0.1 * f64::from(i % 40), -0.95 + 0.1 * f64::from(i / 40)];
            let height = height(a, b);
            if edges.iter().any(|edge| (edge - height).abs() < 0.02) {
                continue;
            }
            let band = edges.iter().filter(|edge| **edge < height).count() - 1;
            let painted = rings.iter().rev().find(|ring| ring.contains(a, b)).map(|ring| ring.band);
            assert_eq!(painted, Some(band), "at {a}, {b}");
            seen[band] += 1;
        }
        assert!(seen.iter().filter(|seen| **seen > 10).count() > 6, "{seen:?}");
    }
}
