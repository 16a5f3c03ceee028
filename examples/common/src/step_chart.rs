//! Charts over the steps of a run.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// A chart over steps, with values on an axis `Y`.
pub type StepChart<'a, B, Y> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, Y>>;

/// Axes over the steps of a run.
///
/// # Errors
/// The errors of plotters.
pub fn step_chart<'a, B, Y>(
    area: &'a DrawingArea<B, Shift>,
    (title, y_label): (&str, &str),
    steps: f64,
    y: Y,
) -> Result<StepChart<'a, B, Y::CoordDescType>, Box<dyn Error>>
where
    B: DrawingBackend,
    B::ErrorType: 'static,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_right(24)
        .caption(title, ("sans-serif", 22))
        .x_label_area_size(44)
        .y_label_area_size(74)
        .build_cartesian_2d(0.0..steps, y)?;
    chart
        .configure_mesh()
        .x_desc("optimizer step")
        .y_desc(y_label)
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 16))
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|value| label(*value))
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(chart)
}

/// From the smallest to the largest value, with a little air.
pub fn axis_range(values: impl Iterator<Item = f64>, logarithmic: bool) -> Range<f64> {
    let bounds = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), bounds);
    if low > high {
        return 0.5..1.0;
    }
    if logarithmic {
        return low / 1.2..high * 1.2;
    }
    let air = if low == high { high.abs().max(1e-9) * 0.5 } else { (high - low) * 0.04 };
    low - air..high + air
}

/// Enough digits for neighbouring labels to differ, no more.
fn label(value: f64) -> String {
    let value = if value.abs() < 1e-12 { 0.0 } else { value };
    let is_plain = value == 0.0 || (1e-3..1e6).contains(&value.abs());
    if is_plain { format!("{}", (value * 1e5).round() / 1e5) } else { format!("{value:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_as_many_digits_as_they_need() {
        let labels = [0.0, -1e-17, 97.5, 2.0, 0.002, 0.0005, 1e6].map(label);
        assert_eq!(labels, ["0", "0", "97.5", "2", "0.002", "5.0e-4", "1.0e6"]);
    }
}
