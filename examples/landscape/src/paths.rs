//! The way of the first point, a panel for each function.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Run;
use crate::contours::{Contours, frame, inside, pair, ranges};
use examples_common::files::Picture;
use examples_common::picture::PALETTE;

/// Pixels of a panel.
pub(crate) const PANEL: (u32, u32) = (400, 370);

/// The rules of the runs that are shown, in order of the palette.
pub(crate) struct Paths<'a> {
    pub(crate) runs: &'a [Run<'a>],
    pub(crate) shown: &'a [String],
}

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

impl Picture for Paths<'_> {
    /// The runs, and one panel for the legend.
    fn size(&self) -> (u32, u32) {
        let (rows, columns) = self.grid();
        (PANEL.0 * columns as u32, PANEL.1 * rows as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result
    where
        B::ErrorType: 'static,
    {
        let panels = area.split_evenly(self.grid());
        for (panel, run) in panels.iter().zip(self.runs) {
            if run.function.dimensions == 1 { self.curves(panel, run)? } else { self.plane(panel, run)? }
        }
        match panels.get(self.runs.len()) {
            Some(panel) => self.legend(panel),
            None => Ok(()),
        }
    }
}

impl Paths<'_> {
    fn grid(&self) -> (usize, usize) {
        let panels = self.runs.len() + 1;
        let columns = panels.min(4);
        (panels.div_ceil(columns), columns)
    }

    /// The first point's path over contour lines.
    fn plane<B: DrawingBackend>(&self, panel: &DrawingArea<B, Shift>, run: &Run) -> Result
    where
        B::ErrorType: 'static,
    {
        let contours = Contours::new(run.function)?;
        let mut chart = contours.draw(panel, run.function.name)?;
        for (record, colour) in run.shown(self.shown).zip(PALETTE) {
            let path: Vec<_> = record.1.path.iter().map(|point| point.map(f64::from)).collect();
            for stretch in inside(run.function, &path, 1.0 / 300.0) {
                chart.draw_series([PathElement::new(stretch, colour.stroke_width(2))])?;
            }
        }
        chart.draw_series([Circle::new(pair(run.function.start), 4, BLACK.filled())])?;
        contours.mark(&mut chart)
    }

    /// Of a function of x alone: x over the steps.
    fn curves<B: DrawingBackend>(&self, panel: &DrawingArea<B, Shift>, run: &Run) -> Result
    where
        B::ErrorType: 'static,
    {
        let [x, _] = ranges(run.function);
        let steps = 60.0;
        let mut chart = frame(panel, run.function.name, (0.0..steps, x.clone()), ["step", "x"])?;
        for &[minimum, _] in run.function.minima {
            let line = [(0.0, minimum.into()), (steps, minimum.into())];
            chart.draw_series([PathElement::new(line, BLACK.mix(0.4))])?;
        }
        for (record, colour) in run.shown(self.shown).zip(PALETTE) {
            let path = record.1.path.iter().zip(0..=steps as u32);
            let path = path.map(|(point, step)| (f64::from(step), f64::from(point[0])));
            let path: Vec<_> = path.take_while(|(_, at)| x.contains(at)).collect();
            chart.draw_series([PathElement::new(path, colour.stroke_width(2))])?;
        }
        chart.draw_series([Circle::new((0.0, run.function.start[0].into()), 4, BLACK.filled())])?;
        Ok(())
    }

    fn legend<B: DrawingBackend>(&self, panel: &DrawingArea<B, Shift>) -> Result
    where
        B::ErrorType: 'static,
    {
        let font = ("sans-serif", 18);
        let at = |row: usize| (50, 70 + 32 * row as i32);
        for ((row, name), colour) in self.shown.iter().enumerate().zip(PALETTE) {
            let (x, y) = at(row);
            panel.draw(&PathElement::new([(x, y), (x + 36, y)], colour.stroke_width(4)))?;
            panel.draw(&Text::new(name.clone(), (x + 50, y - 8), font))?;
        }
        let (x, y) = at(self.shown.len());
        panel.draw(&Circle::new((x + 18, y), 4, BLACK.filled()))?;
        panel.draw(&Text::new("start", (x + 50, y - 8), font))?;
        let (x, y) = at(self.shown.len() + 1);
        panel.draw(&Cross::new((x + 18, y), 5, BLACK.stroke_width(2)))?;
        panel.draw(&Text::new("minimum", (x + 50, y - 8), font))?;
        Ok(())
    }
}
