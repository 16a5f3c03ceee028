//! Learning rates over the steps, a panel beside the other.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use wgpu_optim::Schedule;

use crate::Result;
use examples_common::files::Picture;
use examples_common::picture::PALETTE;

/// Some schedules over the same steps.
pub(crate) struct Panel {
    title: String,
    curves: Vec<(String, Vec<(f64, f64)>)>,
    steps: u64,
}

impl Panel {
    /// The rates of a run of `steps` steps, of each schedule with its label.
    ///
    /// # Errors
    /// Those of [`Schedule::lr`].
    pub(crate) fn new(title: &str, schedules: &[(&str, Schedule)], steps: u64) -> Result<Self> {
        let mut curves = Vec::new();
        for (label, schedule) in schedules {
            let rates = (0..steps).map(|step| Ok((step as f64, schedule.lr(step)?)));
            curves.push(((*label).to_owned(), rates.collect::<Result<_>>()?));
        }
        Ok(Self { title: title.to_owned(), curves, steps })
    }

    fn largest(&self) -> f64 {
        self.curves.iter().flat_map(|(_, rates)| rates).map(|&(_, rate)| rate).fold(0.0, f64::max)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> std::result::Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let labelled = self.curves.len() > 1;
        // Room above the curves for their labels.
        let top = self.largest().max(f64::MIN_POSITIVE) * if labelled { 1.6 } else { 1.1 };
        let (width, _) = area.dim_in_pixel();
        // What does not fit into the panel's width at 20 pixels is written smaller.
        let caption = (f64::from(width) * 1.6 / self.title.chars().count() as f64).min(20.0);
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(18)
            .caption(&self.title, ("sans-serif", caption))
            .x_label_area_size(38)
            .y_label_area_size(66)
            .build_cartesian_2d(0.0..self.steps as f64, 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc("step")
            .y_desc("learning rate")
            .x_labels(4)
            .y_labels(4)
            .disable_x_mesh()
            .x_label_formatter(&|step| format!("{step}"))
            .y_label_formatter(&|rate| rate_label(*rate))
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 14))
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.1))
            .draw()?;
        for ((label, rates), colour) in self.curves.iter().zip(PALETTE.iter().cycle()) {
            let line = chart.draw_series(LineSeries::new(rates.iter().copied(), colour.stroke_width(2)))?;
            if labelled {
                line.label(label).legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
            }
        }
        if labelled {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .legend_area_size(22)
                .margin(4)
                .label_font(("sans-serif", 13))
                .background_style(WHITE.mix(0.85))
                .draw()?;
        }
        Ok(())
    }
}

/// Two digits beside the zeros, or an exponent where those are many.
fn rate_label(rate: f64) -> String {
    if rate == 0.0 || (1e-3..1e4).contains(&rate) {
        format!("{}", (rate * 1e6).round() / 1e6)
    } else {
        format!("{rate:.1e}")
    }
}

/// Panels of one size, row by row.
pub(crate) struct Grid {
    pub(crate) panels: Vec<Panel>,
    pub(crate) columns: usize,
    pub(crate) panel_size: (u32, u32),
}

impl Grid {
    fn rows(&self) -> usize {
        self.panels.len().div_ceil(self.columns)
    }
}

impl Picture for Grid {
    fn size(&self) -> (u32, u32) {
        let (width, height) = self.panel_size;
        (self.columns as u32 * width, self.rows() as u32 * height)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> std::result::Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        for (cell, panel) in area.split_evenly((self.rows(), self.columns)).iter().zip(&self.panels) {
            panel.draw(cell)?;
        }
        Ok(())
    }
}
