//! The curves of a run as one SVG of four panels, and of a fifth where the loss is scaled.

use std::fs;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::Result;
use crate::train::{History, ScalePoint, TrainPoint};
use examples_common::picture::{PALETTE, draw_legend, register_fonts};
use examples_common::step_chart::{axis_range, step_chart};
use mlp_mnist::engine::Score;

const TRAIN: RGBColor = PALETTE[0];
const TEST: RGBColor = PALETTE[1];

/// Width and height of four panels, in pixels.
const SIZE: (u32, u32) = (1_200, 800);
/// Height of the panel of the loss scale, below.
const SCALE_HEIGHT: u32 = 400;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

struct Panel<'a> {
    title: &'a str,
    y_label: &'a str,
    /// Loss and gradient norm fall by orders of magnitude.
    logarithmic: bool,
    train: Vec<(f64, f64)>,
    test: Vec<(f64, f64)>,
}

/// Draws loss, accuracy, learning rate and gradient norm over the steps.
pub(crate) fn draw(history: &History, path: &Path) -> Result<()> {
    let svg = render(history).map_err(|error| format!("the curves cannot be drawn: {error}"))?;
    fs::write(path, svg)
        .map_err(|error| format!("{} cannot be written: {error}; give --plot another file", path.display()))?;
    Ok(())
}

impl<'a> Panel<'a> {
    /// Leaves out what has no place on the axis: values that are not finite and, on a logarithmic one, zeros.
    fn new(title: &'a str, y_label: &'a str, logarithmic: bool, curves: [Vec<(f64, f64)>; 2]) -> Self {
        let [train, test] = curves.map(|mut points| {
            points.retain(|(_, value)| value.is_finite() && (!logarithmic || *value > 0.0));
            points
        });
        Self { title, y_label, logarithmic, train, test }
    }
}

fn render(history: &History) -> Result<String> {
    register_fonts()?;
    let train = |value: fn(&TrainPoint) -> Option<f64>| -> Vec<(f64, f64)> {
        history.train.iter().filter_map(|point| Some((point.step as f64, value(point)?))).collect()
    };
    let both = |value: fn(&Score) -> f64| -> [Vec<(f64, f64)>; 2] {
        let train = history.train.iter().map(|point| (point.step as f64, value(&point.score)));
        let test = history.test.iter().map(|(step, score)| (*step as f64, value(score)));
        [train.collect(), test.collect()]
    };
    let panels = [
        Panel::new("Loss", "cross-entropy (nats)", true, both(Score::loss)),
        Panel::new("Accuracy", "correct (%)", false, both(Score::accuracy)),
        Panel::new("Learning rate", "lr", false, [train(|point| Some(point.lr)), Vec::new()]),
        Panel::new("Gradient norm before clipping", "global norm", true, [train(|point| point.grad_norm), Vec::new()]),
    ];
    let steps = history.test.last().map_or(1, |(step, _)| *step) as f64;
    let mut svg = String::new();
    {
        let (width, height) = SIZE;
        let further = if history.scales.is_empty() { 0 } else { SCALE_HEIGHT };
        let root = SVGBackend::with_string(&mut svg, (width, height + further)).into_drawing_area();
        root.fill(&WHITE)?;
        let (curves, below) = root.split_vertically(height);
        if !history.scales.is_empty() {
            draw_scales(&below, &history.scales, steps)?;
        }
        for (area, panel) in curves.split_evenly((2, 2)).iter().zip(&panels) {
            let values = panel.train.iter().chain(&panel.test).map(|(_, value)| *value);
            let Range { start, end } = axis_range(values, panel.logarithmic);
            if panel.logarithmic {
                draw_panel(area, panel, steps, (start..end).log_scale())?;
            } else {
                draw_panel(area, panel, steps, start..end)?;
            }
        }
        root.present()?;
    }
    Ok(svg)
}

fn draw_panel<Y>(area: &Area, panel: &Panel, steps: f64, y: Y) -> Result<()>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = step_chart(area, (panel.title, panel.y_label), steps, y)?;
    chart
        .draw_series(LineSeries::new(panel.train.iter().copied(), TRAIN.stroke_width(2)))?
        .label("training")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], TRAIN.stroke_width(2)));
    if panel.test.is_empty() {
        return Ok(());
    }
    chart.draw_series(LineSeries::new(panel.test.iter().copied(), TEST.stroke_width(2)))?;
    chart
        .draw_series(panel.test.iter().map(|&at| Circle::new(at, 4, TEST.filled())))?
        .label("test")
        .legend(|(x, y)| Circle::new((x + 9, y), 4, TEST.filled()));
    let position =
        if panel.title == "Loss" { SeriesLabelPosition::UpperRight } else { SeriesLabelPosition::LowerRight };
    Ok(draw_legend(&mut chart, position, 16)?)
}

/// The loss scale after each step, and the steps that were skipped.
fn draw_scales(area: &Area, scales: &[ScalePoint], steps: f64) -> Result<()> {
    let at = |point: &ScalePoint| (point.step as f64, point.scale);
    let (low, high) = scales
        .iter()
        .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), point| (low.min(point.scale), high.max(point.scale)));
    let mut chart =
        step_chart(area, ("Loss scale after each step", "factor"), steps, (low / 2.0..high * 2.0).log_scale())?;
    chart
        .draw_series(LineSeries::new(scales.iter().map(at), TRAIN.stroke_width(2)))?
        .label("loss scale")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], TRAIN.stroke_width(2)));
    let skipped = scales.iter().filter(|point| point.is_skipped).map(at);
    chart
        .draw_series(skipped.map(|at| Cross::new(at, 5, TEST.stroke_width(2))))?
        .label("skipped step")
        .legend(|(x, y)| Cross::new((x + 9, y), 5, TEST.stroke_width(2)));
    Ok(draw_legend(&mut chart, SeriesLabelPosition::UpperRight, 16)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(points: u64) -> History {
        let score =
            |step: u64| Score { loss_sum: 2.0 * 0.97_f64.powi(step as i32), correct: step.min(90), examples: 100 };
        let point = |step| TrainPoint { step, score: score(step), lr: 1e-3, grad_norm: Some(1.5) };
        History {
            train: (1..=points).map(point).collect(),
            test: (1..=points).filter(|step| step % 50 == 0).map(|step| (step, score(step))).collect(),
            ..History::default()
        }
    }

    #[test]
    fn a_loss_scale_has_a_panel_with_its_skipped_steps() {
        let plain = render(&history(150)).expect("drawn");
        assert!(!plain.contains("Loss scale") && plain.contains("height=\"800\""));
        let scale = |step: u64| ScalePoint { step, scale: 2f64.powi(20 - step.min(3) as i32), is_skipped: step <= 3 };
        let scaled = History { scales: (1..=150).map(scale).collect(), ..history(150) };
        let svg = render(&scaled).expect("drawn");
        for words in ["Loss scale after each step", "skipped step", "height=\"1200\""] {
            assert!(svg.contains(words), "{words} is missing");
        }
        // A cross has two lines: three skipped steps, and the legend.
        let crosses = svg.matches("stroke=\"#D55E00\"").count() - plain.matches("stroke=\"#D55E00\"").count();
        assert_eq!(crosses, 8);
    }

    #[test]
    fn the_drawing_has_its_curves_and_its_words() {
        let svg = render(&history(150)).expect("drawn");
        for words in
            ["Loss", "Accuracy", "Learning rate", "Gradient norm", "optimizer step", "correct (%)", "training", "test"]
        {
            assert!(svg.contains(words), "{words} is missing");
        }
        // A line in each panel and two in the legends; the test curve in two panels.
        let lines =
            |color: &str| svg.matches(&format!("<polyline fill=\"none\" opacity=\"1\" stroke=\"{color}\"")).count();
        assert_eq!([lines("#0072B2"), lines("#D55E00")], [6, 2]);
    }

    #[test]
    fn runs_of_no_points_one_point_and_infinite_norms_are_drawn_too() {
        let mut infinite = history(3);
        infinite.train[1].grad_norm = Some(f64::INFINITY);
        infinite.train[2].grad_norm = None;
        infinite.train[2].score.loss_sum = 0.0;
        infinite.test = vec![(2, Score { loss_sum: f64::NAN, correct: 1, examples: 10 })];
        for history in [history(0), history(1), infinite] {
            let svg = render(&history).expect("drawn");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn a_panel_keeps_what_has_a_place_on_its_axis() {
        let points = vec![(1.0, 4.0), (2.0, 0.0), (3.0, f64::NAN), (4.0, f64::INFINITY), (5.0, 0.5)];
        let panel = |logarithmic| Panel::new("", "", logarithmic, [points.clone(), Vec::new()]);
        assert_eq!(panel(true).train, [(1.0, 4.0), (5.0, 0.5)]);
        assert_eq!(panel(false).train, [(1.0, 4.0), (2.0, 0.0), (5.0, 0.5)]);
        let Range { start, end } = axis_range(panel(true).train.into_iter().map(|(_, value)| value), true);
        assert!(0.0 < start && start < 0.5 && 4.0 < end && end < 8.0, "{start} to {end}");
    }
}
