//! A surface in three dimensions, its height the logarithm of the loss, and the path of training on it.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::surface::{Bands, Surface, rounded};
use examples_common::picture::PALETTE;

const YAW: f64 = 0.6;
const PITCH: f64 = 0.45;
/// From the middle of an edge to its name, in pixels.
const OFFSETS: [(i32, i32); 2] = [(-165, 34), (10, 40)];

pub(crate) fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, surface: &Surface, bands: &Bands) -> Result<()>
where
    B::ErrorType: 'static,
{
    let [x, y] = &surface.ranges;
    let height = bands.range.clone();
    let mut chart = ChartBuilder::on(area)
        .margin(24)
        .caption("the same, with the loss as height", ("sans-serif", 19))
        .build_cartesian_3d(x.clone(), height.clone(), y.clone())?;
    chart.with_projection(|mut projection| {
        projection.yaw = YAW;
        projection.pitch = PITCH;
        projection.scale = 0.85;
        projection.into_matrix()
    });
    chart
        .configure_axes()
        .light_grid_style(TRANSPARENT)
        .bold_grid_style(BLACK.mix(0.15))
        .label_style(("sans-serif", 14))
        .x_labels(4)
        .z_labels(4)
        .y_labels(6)
        .y_formatter(&|height| rounded(10_f64.powf(*height)).to_string())
        .draw()?;
    // Below the two edges in front.
    let text = |axis: usize| Text::new(surface.axes[axis].name.clone(), OFFSETS[axis], ("sans-serif", 16));
    let middles = surface.ranges.each_ref().map(|range| f64::midpoint(range.start, range.end));
    chart.draw_series([
        EmptyElement::at((middles[0], height.start, y.end)) + text(0),
        EmptyElement::at((x.end, height.start, middles[1])) + text(1),
    ])?;
    let places = |direction: usize| {
        let (start, step) = (surface.ranges[direction].start, surface.step(direction));
        (0..surface.side).map(move |i| start + step * i as f64)
    };
    chart.draw_series(
        SurfaceSeries::xoz(places(0), places(1), |a, b| surface.height([a, b]))
            .style_func(&|height| bands.colour_at(*height).filled()),
    )?;
    let path: Vec<_> = surface.path.iter().map(|&[a, b]| (a, surface.height([a, b]), b)).collect();
    chart.draw_series(LineSeries::new(path.iter().copied(), WHITE.stroke_width(4)))?;
    chart.draw_series(LineSeries::new(path.iter().copied(), PALETTE[1].stroke_width(2)))?;
    chart.draw_series([Circle::new((0.0, surface.height([0.0, 0.0]), 0.0), 4, BLACK.filled())])?;
    Ok(())
}
