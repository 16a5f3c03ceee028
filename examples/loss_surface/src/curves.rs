//! The losses of two surfaces along the first direction.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::surface::Surface;
use examples_common::files::Picture;
use examples_common::picture::{PALETTE, draw_legend};

pub(crate) struct Curves<'a>(pub(crate) [&'a Surface; 2]);

impl Picture for Curves<'_> {
    fn size(&self) -> (u32, u32) {
        (900, 480)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let curves = self.0.map(Surface::curve);
        let high = curves.iter().flatten().map(|(_, loss)| *loss).fold(f64::MIN, f64::max);
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .x_label_area_size(46)
            .y_label_area_size(70)
            .build_cartesian_2d(self.0[0].ranges[0].clone(), 0.0..high * 1.05)?;
        chart
            .configure_mesh()
            .x_desc(self.0[0].axes[0].to_string())
            .y_desc("loss (nats)")
            .label_style(("sans-serif", 14))
            .axis_desc_style(("sans-serif", 16))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for ((surface, curve), colour) in self.0.iter().zip(curves).zip(PALETTE) {
            chart
                .draw_series(LineSeries::new(curve, colour.stroke_width(2)))?
                .label(&surface.title)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        Ok(draw_legend(&mut chart, SeriesLabelPosition::UpperMiddle, 15)?)
    }
}
