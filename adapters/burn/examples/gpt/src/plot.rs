//! Curves as SVG: those of a run, and those of two runs beside each other.

use std::fs;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use wgpu_optim::Schedule;

use crate::Result;
use crate::train::{History, Report};
use examples_common::picture::{PALETTE, draw_legend, register_fonts};
use examples_common::step_chart::{axis_range, step_chart};

/// Width and height of a panel, in pixels.
const PANEL: (u32, u32) = (600, 400);

/// Steps whose mean a point of a smoothed loss is.
const SMOOTH: usize = 20;

pub(crate) struct Curve {
    pub(crate) label: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) y_label: &'static str,
    /// For what differs by orders of magnitude.
    pub(crate) logarithmic: bool,
    pub(crate) curves: Vec<Curve>,
}

/// Draws loss, learning rate, gradient norm and speed of a run over its steps.
pub(crate) fn draw(history: &History, schedule: &Schedule, path: &Path) -> Result<()> {
    let reports = |value: fn(&Report) -> Option<f64>| -> Vec<(f64, f64)> {
        history.reports.iter().filter_map(|report| Some((report.step as f64, value(report)?))).collect()
    };
    let validation = history.validation.iter().map(|&(step, loss)| (step as f64, loss)).collect();
    let lr = history.reports.iter().map(|report| Ok((report.step as f64, schedule.lr(report.step - 1)?)));
    let curve = |label, points| Curve { label, points };
    let panel = |title, y_label, logarithmic, curves| Panel { title, y_label, logarithmic, curves };
    let losses = vec![curve("training", smooth(&history.losses)), curve("validation", validation)];
    let panels = [
        panel("Loss", "cross-entropy (nats per character)", false, losses),
        panel("Learning rate", "lr", false, vec![curve("", lr.collect::<Result<_>>()?)]),
        panel(
            "Gradient norm before clipping",
            "global norm",
            true,
            vec![curve("", reports(|report| report.grad_norm))],
        ),
        panel(
            "Speed",
            "characters per second",
            false,
            vec![curve("", reports(|report| Some(report.tokens_per_second)))],
        ),
    ];
    save(&panels, 2, path)
}

/// The means of [`SMOOTH`] losses each.
pub(crate) fn smooth(losses: &[(u64, f64)]) -> Vec<(f64, f64)> {
    let mean = |chunk: &[(u64, f64)]| {
        let count = chunk.len() as f64;
        let sum = chunk.iter().fold((0.0, 0.0), |sum, &(step, loss)| (sum.0 + step as f64, sum.1 + loss));
        (sum.0 / count, sum.1 / count)
    };
    losses.chunks(SMOOTH).map(mean).collect()
}

/// Draws panels, `columns` in a row.
pub(crate) fn save(panels: &[Panel], columns: usize, path: &Path) -> Result<()> {
    let svg = render(panels, columns).map_err(|error| format!("the curves cannot be drawn: {error}"))?;
    fs::write(path, svg)
        .map_err(|error| format!("{} cannot be written: {error}; give --plot another file", path.display()))?;
    Ok(())
}

fn render(panels: &[Panel], columns: usize) -> Result<String> {
    register_fonts()?;
    let rows = panels.len().div_ceil(columns);
    let mut svg = String::new();
    {
        let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (area, panel) in root.split_evenly((rows, columns)).iter().zip(panels) {
            let Range { start, end } = axis_range(drawable(panel).map(|point| point.1), panel.logarithmic);
            if panel.logarithmic {
                draw_panel(area, panel, (start..end).log_scale())?;
            } else {
                draw_panel(area, panel, start..end)?;
            }
        }
        root.present()?;
    }
    Ok(svg)
}

fn draw_panel<Y>(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel, y: Y) -> Result<()>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let last = drawable(panel).map(|point| point.0).fold(1.0, f64::max);
    let mut chart = step_chart(area, (panel.title, panel.y_label), last, y)?;
    for (curve, colour) in panel.curves.iter().zip(PALETTE) {
        let points = curve.points.iter().copied().filter(|&point| has_place(panel, point));
        let series = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        if !curve.label.is_empty() {
            series
                .label(curve.label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
    }
    if panel.curves.iter().any(|curve| !curve.label.is_empty()) {
        draw_legend(&mut chart, SeriesLabelPosition::UpperRight, 16)?;
    }
    Ok(())
}

/// Values that are not finite have no place on an axis, and those of 0 none on a logarithmic one.
fn has_place(panel: &Panel, (_, value): (f64, f64)) -> bool {
    value.is_finite() && (!panel.logarithmic || value > 0.0)
}

fn drawable(panel: &Panel) -> impl Iterator<Item = (f64, f64)> {
    panel.curves.iter().flat_map(|curve| curve.points.iter().copied()).filter(|&point| has_place(panel, point))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(logarithmic: bool, points: &[(f64, f64)]) -> Panel {
        let curves = vec![Curve { label: "training", points: points.to_vec() }];
        Panel { title: "Loss", y_label: "nats", logarithmic, curves }
    }

    #[test]
    fn the_drawing_has_its_curves_and_its_words() {
        let svg = render(&[panel(false, &[(1.0, 3.0), (2.0, 2.0)]), panel(true, &[(1.0, 9.0)])], 2).expect("drawn");
        for words in ["Loss", "nats", "optimizer step", "training", "<polyline"] {
            assert!(svg.contains(words), "{words} is missing");
        }
        assert!(svg.contains("width=\"1200\"") && svg.contains("height=\"400\""));
    }

    #[test]
    fn what_has_no_place_on_an_axis_is_left_out() {
        let points = [(1.0, 4.0), (2.0, 0.0), (3.0, f64::NAN), (4.0, f64::INFINITY), (5.0, 0.5)];
        let places = |logarithmic| drawable(&panel(logarithmic, &points)).map(|point| point.0).collect::<Vec<_>>();
        assert_eq!((places(true), places(false)), (vec![1.0, 5.0], vec![1.0, 2.0, 5.0]));
        for points in [&points[..], &[]] {
            let svg = render(&[panel(true, points)], 1).expect("drawn");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn a_smoothed_loss_is_a_mean() {
        let losses: Vec<(u64, f64)> = (1..=30).map(|step| (step, step as f64)).collect();
        assert_eq!(smooth(&losses), [(10.5, 10.5), (25.5, 25.5)]);
    }
}
