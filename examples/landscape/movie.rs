//! The race as an animated GIF: the points of every rule over contour lines.

use std::path::{Path, PathBuf};

use plotters::prelude::*;

use crate::contours::{Contours, pair, ranges};
use crate::picture::PALETTE;
use crate::{Result, Run, captions};

const PANEL: (u32, u32) = (230, 210);
const TITLE: u32 = 26;
const FRAMES: u32 = 40;
const MILLISECONDS: u32 = 120;
/// Points of a panel, more than which the eye does not tell apart.
const POINTS: usize = 300;

/// Steps to keep of so many: more at the beginning, where more happens; the last is the end.
pub(crate) fn frames(steps: u32) -> Vec<u32> {
    let at = |i: u32| f64::from(i) / f64::from(FRAMES - 1);
    let mut frames: Vec<_> = (0..FRAMES).map(|i| (f64::from(steps) * at(i).powi(3)).round() as u32).collect();
    frames.dedup();
    frames
}

/// Writes `race.gif`; `frames` are the steps of the run's frames.
pub(crate) fn save(run: &Run, shown: &[String], frames: &[u32], folder: &Path) -> Result<PathBuf> {
    let path = folder.join("race.gif");
    let contours = Contours::new(run.function)?;
    let (rows, columns) = captions::grid(shown.len());
    let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32 + TITLE);
    let root = BitMapBackend::gif(&path, size, MILLISECONDS)?.into_drawing_area();
    let [x, y] = ranges(run.function);
    for (frame, step) in frames.iter().enumerate() {
        root.fill(&WHITE)?;
        root.draw(&Text::new(format!("{}, step {step}", run.function.name), (14, 6), ("sans-serif", 18)))?;
        let panels = root.margin(TITLE, 0, 0, 0).split_evenly((rows, columns));
        for ((panel, (entry, record)), colour) in panels.iter().zip(run.shown(shown)).zip(PALETTE) {
            let mut chart = contours.draw(panel, &captions::title(entry))?;
            let points = &record.frames[frame];
            let points = points.iter().step_by(points.len().div_ceil(POINTS)).map(|&point| pair(point));
            let inside = points.filter(|(at_x, at_y)| x.contains(at_x) && y.contains(at_y));
            chart.draw_series(inside.map(|at| Circle::new(at, 2, colour.filled())))?;
        }
        root.present()?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_ascend_from_the_start_to_the_end() {
        for steps in [1, 7, 2_000] {
            let frames = frames(steps);
            assert_eq!([frames[0], *frames.last().expect("some")], [0, steps]);
            assert!(frames.is_sorted_by(|a, b| a < b) && frames.len() <= FRAMES as usize, "{frames:?}");
        }
    }
}
