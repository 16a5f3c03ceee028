//! A surface from above: filled contours, and the path of training on them.

use contour::ContourBuilder;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::picture::PALETTE;
use crate::surface::{Bands, Surface};

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
        .contours(&surface.heights, &edges[1..edges.len() - 1])?;
    let mut rings = Vec::new();
    for (below, contour) in contours.iter().enumerate() {
        for polygon in contour.geometry() {
            let inner = polygon.interiors().iter().map(|ring| (ring, below));
            for (ring, band) in [(polygon.exterior(), below + 1)].into_iter().chain(inner) {
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
    let whole = Rectangle::new([(x.start, y.start), (x.end, y.end)], bands.colour(0).filled());
    chart.draw_series([whole])?;
    for ring in rings(surface, bands)? {
        chart.draw_series([Polygon::new(ring.points, bands.colour(ring.band).filled())])?;
    }
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc(&surface.labels[0])
        .y_desc(&surface.labels[1])
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 16))
        .draw()?;
    let path: Vec<_> = surface.path.iter().map(|&[a, b]| (a, b)).collect();
    let [colour, ..] = [PALETTE[1]];
    chart.draw_series(LineSeries::new(path.iter().copied(), WHITE.stroke_width(4)))?;
    chart.draw_series(LineSeries::new(path.iter().copied(), colour.stroke_width(2)))?;
    chart.draw_series(path.iter().map(|&at| Circle::new(at, 3, WHITE.filled())))?;
    chart.draw_series(path.iter().map(|&at| Circle::new(at, 2, colour.filled())))?;
    // The trained network.
    chart.draw_series([Circle::new((0.0, 0.0), 5, WHITE.filled()), Circle::new((0.0, 0.0), 3, BLACK.filled())])?;
    Ok(())
}
