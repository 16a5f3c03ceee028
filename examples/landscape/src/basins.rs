//! Which minimum every point reaches, a panel for each rule.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::contours::{frame, pair, ranges};
use crate::paths::PANEL;
use crate::race::{Entry, Record};
use crate::{Run, captions};
use examples_common::files::Picture;
use examples_common::picture::PALETTE;

/// How near to a minimum a point has reached it.
const NEAR: f32 = 0.5;
const NONE: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Height of the legend, in pixels.
const LEGEND: u32 = 44;

/// The last frame of a run of a function with several minima.
pub(crate) struct Basins<'a> {
    pub(crate) run: &'a Run<'a>,
    pub(crate) shown: &'a [String],
    pub(crate) steps: u32,
}

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

impl Picture for Basins<'_> {
    fn size(&self) -> (u32, u32) {
        let (rows, columns) = captions::grid(self.shown.len());
        (PANEL.0 * columns as u32, PANEL.1 * rows as u32 + LEGEND)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result
    where
        B::ErrorType: 'static,
    {
        let (panels, legend) = area.split_vertically(self.size().1 - LEGEND);
        let panels = panels.split_evenly(captions::grid(self.shown.len()));
        for (panel, (entry, record)) in panels.iter().zip(self.run.shown(self.shown)) {
            self.panel(panel, entry, record)?;
        }
        self.legend(&legend)
    }
}

impl Basins<'_> {
    fn panel<B: DrawingBackend>(&self, panel: &DrawingArea<B, Shift>, entry: &Entry, record: &Record) -> Result
    where
        B::ErrorType: 'static,
    {
        let function = self.run.function;
        let [x, y] = ranges(function);
        let mut chart =
            frame(panel, &captions::title(entry), (x.clone(), y.clone()), ["x of the start", "y of the start"])?;
        let reached = record.frames.last().map(|points| points.iter().map(|&point| nearest(function.minima, point)));
        // The first point is none of the grid.
        let reached: Vec<_> = reached.into_iter().flatten().skip(1).collect();
        let side = function.side(reached.len());
        let edge =
            |range: &std::ops::Range<f64>, i: usize| range.start + (range.end - range.start) * i as f64 / side as f64;
        for (row, reached) in reached.chunks(side).enumerate() {
            let mut first = 0;
            for run in reached.chunk_by(|a, b| a == b) {
                let corners = [(edge(&x, first), edge(&y, row)), (edge(&x, first + run.len()), edge(&y, row + 1))];
                chart.draw_series([Rectangle::new(corners, colour(run[0]).filled())])?;
                first += run.len();
            }
        }
        chart.draw_series(function.minima.iter().map(|&at| Circle::new(pair(at), 5, WHITE.filled())))?;
        chart.draw_series(function.minima.iter().map(|&at| Circle::new(pair(at), 3, BLACK.filled())))?;
        Ok(())
    }

    fn legend<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result
    where
        B::ErrorType: 'static,
    {
        let minima = self.run.function.minima;
        let names = minima.iter().map(|[x, y]| format!("to ({x:.2}, {y:.2})"));
        let none = format!("to none in {} steps", self.steps);
        for (i, name) in names.chain([none]).enumerate() {
            let x = 60 + 215 * i as i32;
            let colour = colour((i < minima.len()).then_some(i));
            area.draw(&Rectangle::new([(x, 10), (x + 18, 28)], colour.filled()))?;
            area.draw(&Text::new(name, (x + 26, 11), ("sans-serif", 17)))?;
        }
        Ok(())
    }
}

/// The minimum that a point lies near to.
fn nearest(minima: &[[f32; 2]], [x, y]: [f32; 2]) -> Option<usize> {
    minima.iter().position(|minimum| (minimum[0] - x).hypot(minimum[1] - y) < NEAR)
}

fn colour(minimum: Option<usize>) -> RGBColor {
    minimum.map_or(NONE, |minimum| PALETTE[minimum % PALETTE.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_belongs_to_the_minimum_beside_it() {
        let minima = [[3.0, 2.0], [-3.0, 2.0]];
        assert_eq!(nearest(&minima, [-2.9, 2.3]), Some(1));
        assert_eq!(nearest(&minima, [0.0, 2.0]), None);
        assert_eq!(nearest(&minima, [f32::NAN, 2.0]), None);
    }
}
