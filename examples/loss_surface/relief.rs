//! A surface in three dimensions, its height the logarithm of the loss, and the path of training on it.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::picture::PALETTE;
use crate::surface::{Bands, Surface};

const YAW: f64 = 0.6;
const PITCH: f64 = 0.45;

pub(crate) fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, surface: &Surface, bands: &Bands) -> Result<()>
where
    B::ErrorType: 'static,
{
    let [x, y] = &surface.ranges;
    let height = bands.range.clone();
    let mut chart = ChartBuilder::on(area).margin(24).caption(&surface.title, ("sans-serif", 19)).build_cartesian_3d(
        x.clone(),
        height.clone(),
        y.clone(),
    )?;
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
        .x_labels(5)
        .z_labels(5)
        .y_labels(6)
        .y_formatter(&|height| format!("{:.1e}", 10_f64.powf(*height)))
        .draw()?;
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
