//! Loss of the common parameters, a curve per run.

use std::error::Error;

use examples_common::picture::{PALETTE, draw_legend, register_fonts};
use plotters::prelude::*;

use crate::simulation::{Point, Run};

const SIZE: (u32, u32) = (1_000, 640);

#[derive(Clone, Copy)]
pub enum Axis {
    Bytes,
    Hours,
}

impl Axis {
    fn value(self, point: &Point) -> f64 {
        match self {
            Self::Bytes => point.bytes / 1e9,
            Self::Hours => point.hours,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Bytes => "GB sent by a worker",
            Self::Hours => "simulated hours",
        }
    }
}

/// The picture as SVG. Both axes are logarithmic.
pub fn render(runs: &[Run], axis: Axis) -> Result<String, Box<dyn Error>> {
    register_fonts()?;
    let points = || runs.iter().flat_map(|run| &run.points);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((f64::INFINITY, 0.0f64), |(least, most), v| (least.min(v), most.max(v)));
        if least < most { least / 1.2..most * 1.2 } else { 0.1..10.0 }
    };
    let (x, y) =
        (range(&mut points().map(|point| axis.value(point))), range(&mut points().map(|point| point.score.loss())));
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(16)
            .x_label_area_size(50)
            .y_label_area_size(70)
            .build_cartesian_2d(x.log_scale(), y.log_scale())?;
        chart
            .configure_mesh()
            .x_desc(axis.label())
            .y_desc("loss on the test images")
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 17))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (number, run) in runs.iter().enumerate() {
            let colour = PALETTE[number % PALETTE.len()];
            let points = || run.points.iter().map(|point| (axis.value(point), point.score.loss()));
            chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
            chart
                .draw_series(points().map(|point| Circle::new(point, 3, colour.filled())))?
                .label(format!("H = {}", run.every))
                .legend(move |(x, y)| Circle::new((x + 9, y), 5, colour.filled()));
        }
        draw_legend(&mut chart, SeriesLabelPosition::UpperRight, 15)?;
        root.present()?;
    }
    Ok(svg)
}
