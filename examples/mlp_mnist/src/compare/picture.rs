//! The picture of a comparison: training loss and test accuracy of every rule.

use std::error::Error;
use std::path::{Path, PathBuf};

use examples_common::files::{Picture, save};
use examples_common::picture::{PALETTE, draw_legend, register_fonts};
use examples_common::step_chart::step_chart;
use mlp_mnist::engine::Score;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{COLOURS, Run};
use crate::Result;
use crate::train::TrainPoint;

/// Points of a training curve, each the mean over the same number of examples.
const POINTS: usize = 40;

const _: () = assert!(COLOURS == PALETTE.len());

impl Run {
    /// Mean loss in equal parts of the run, each at its last step.
    fn losses(&self) -> Vec<(f64, f64)> {
        let train = &self.history.train;
        let part = |points: &[TrainPoint]| {
            let mut score = Score::default();
            for point in points {
                score.add(&point.score);
            }
            Some((points.last()?.step as f64, score.loss()))
        };
        let parts = train.chunks(train.len().div_ceil(POINTS).max(1));
        parts.filter_map(part).filter(|(_, loss)| loss.is_finite() && *loss > 0.0).collect()
    }

    fn accuracies(&self) -> Vec<(f64, f64)> {
        self.history.test.iter().map(|(step, score)| (*step as f64, score.accuracy())).collect()
    }
}

/// Writes `compare.svg` and `compare.png`.
pub(super) fn draw(runs: Vec<Run>, steps: u64, folder: &Path) -> Result<[PathBuf; 2]> {
    register_fonts()?;
    save(&Comparison { runs, steps }, folder, "compare")
}

struct Comparison {
    runs: Vec<Run>,
    steps: u64,
}

impl Picture for Comparison {
    fn size(&self) -> (u32, u32) {
        (1_200, 520)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> std::result::Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let losses: Vec<_> = self.runs.iter().map(Run::losses).collect();
        let accuracies: Vec<_> = self.runs.iter().map(Run::accuracies).collect();
        let (left, right) = area.split_horizontally(self.size().0 / 2);
        let values = losses.iter().flatten().map(|(_, loss)| *loss);
        let (low, high) = values.fold((f64::INFINITY, 0.0), |(low, high), loss| (loss.min(low), loss.max(high)));
        let (low, high) = if low < high { (low, high) } else { (0.5, 1.0) };
        let steps = self.steps as f64;
        let labels = ("Training loss", "cross-entropy (nats)");
        let mut chart = step_chart(&left, labels, steps, (low / 1.2..high * 1.2).log_scale())?;
        for (run, (points, colour)) in self.runs.iter().zip(losses.into_iter().zip(PALETTE)) {
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(&run.label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
        }
        draw_legend(&mut chart, SeriesLabelPosition::UpperRight, 15)?;

        let values = accuracies.iter().flatten().map(|(_, accuracy)| *accuracy);
        let (low, high) = values.fold((100.0, 0.0), |(low, high), value: f64| (value.min(low), value.max(high)));
        let air = ((high - low) * 0.05_f64).max(0.5);
        let labels = ("Test accuracy after each epoch", "correct (%)");
        let mut chart = step_chart(&right, labels, steps * 1.02, low - air..high + air)?;
        for (points, colour) in accuracies.into_iter().zip(PALETTE) {
            chart.draw_series(points.iter().map(|&at| Circle::new(at, 4, colour.filled())))?;
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::run;
    use super::*;

    #[test]
    fn a_training_curve_has_the_mean_of_equal_parts() {
        let losses = run("", 0, 400).losses();
        assert_eq!((losses.len(), losses[0].0, losses[39].0), (POINTS, 10.0, 400.0));
        let mean = (1..=10).map(|step| 2.0 / f64::from(1 + step)).sum::<f64>() / 10.0;
        assert!((losses[0].1 - mean).abs() < 1e-12);
        assert_eq!(run("", 0, 7).losses().len(), 7);
    }

    #[test]
    fn runs_without_points_and_with_nan_are_drawn_too() {
        register_fonts().expect("a font");
        let mut broken = run("broken", 5, 60);
        broken.history.train[3].score.loss_sum = f64::NAN;
        let folder = tempfile::tempdir().expect("a folder");
        let comparison = Comparison { runs: vec![run("empty", 0, 0), broken], steps: 60 };
        let [picture, _] = save(&comparison, folder.path(), "compare").expect("drawn");
        let picture = fs::read_to_string(picture).expect("written");
        for words in ["Training loss", "Test accuracy", "empty", "broken", "optimizer step", "correct (%)"] {
            assert!(picture.contains(words), "{words} is missing");
        }
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
    }
}
