//! The loss over the learning rate, with the suggestions.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use wgpu_optim::schedule::{LrPoint, LrSuggestions};

use examples_common::files::Picture;
use examples_common::picture::{PALETTE, draw_legend};

pub(crate) struct Curve {
    pub(crate) rule: String,
    pub(crate) points: Vec<LrPoint>,
    pub(crate) suggestions: Option<LrSuggestions>,
}

impl Curve {
    /// Suggestions with their names.
    pub(crate) fn suggested(&self) -> Vec<(&'static str, f64)> {
        let named =
            |all: LrSuggestions| [("valley", all.valley), ("steepest", all.steepest), ("minimum / 10", all.minimum)];
        self.suggestions.map(named).into_iter().flatten().collect()
    }

    /// The average at a learning rate.
    fn smooth_loss(&self, lr: f64) -> f64 {
        let after = self.points.partition_point(|point| point.lr < lr);
        self.points.get(after).or(self.points.last()).map_or(0.0, |point| point.smooth_loss)
    }
}

impl Picture for Curve {
    fn size(&self) -> (u32, u32) {
        (900, 540)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return Err("the first loss was not finite".into());
        };
        let [batch, average] = [PALETTE[4], PALETTE[0]];
        // The end of a test that diverges would press all that matters to the bottom.
        let top = 1.6 * first.loss;
        let seen = |value: fn(&LrPoint) -> f64| {
            self.points.iter().map(move |point| (point.lr, value(point))).filter(move |(_, loss)| *loss <= top)
        };
        let mut chart = ChartBuilder::on(area)
            .margin(14)
            .margin_right(24)
            .caption(format!("Learning rate range test with {}", self.rule), ("sans-serif", 22))
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d((first.lr..last.lr * 1.000_001).log_scale(), 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc("learning rate")
            .y_desc("cross-entropy (nats)")
            .label_style(("sans-serif", 14))
            .axis_desc_style(("sans-serif", 16))
            .x_label_formatter(&|lr| format!("{lr:.0e}"))
            .y_label_formatter(&|loss| format!("{loss:.1}"))
            .light_line_style(TRANSPARENT)
            .draw()?;
        chart
            .draw_series(LineSeries::new(seen(|point| point.loss), batch.stroke_width(1)))?
            .label("loss of the batch")
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], batch.stroke_width(1)));
        chart
            .draw_series(LineSeries::new(seen(|point| point.smooth_loss), average.stroke_width(3)))?
            .label("running average")
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], average.stroke_width(3)));
        for ((name, lr), colour) in self.suggested().into_iter().zip([PALETTE[1], PALETTE[2], PALETTE[6]]) {
            let at = (lr, self.smooth_loss(lr));
            chart.draw_series([PathElement::new([(lr, 0.0), at], colour.mix(0.6))])?;
            chart
                .draw_series([Circle::new(at, 6, colour.filled())])?
                .label(format!("{name}: {lr:.1e}"))
                .legend(move |(x, y)| Circle::new((x + 9, y), 6, colour.filled()));
        }
        Ok(draw_legend(&mut chart, SeriesLabelPosition::LowerLeft, 16)?)
    }
}
