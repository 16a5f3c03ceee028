//! What the pictures of a function have in common: its contour lines, its frame, its minima.

use std::ops::Range;

use contour::ContourBuilder;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::Result;
use examples_common::functions::Function;

pub(crate) type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Points along each axis where the function is taken.
const SAMPLES: usize = 101;
/// Contour lines, evenly spaced or by the logarithm.
const LEVELS: usize = 8;
const LOGARITHMIC_LEVELS: usize = 14;
const LINE: RGBColor = RGBColor(0xa8, 0xa8, 0xa8);

/// The contour lines of a function in its window.
pub(crate) struct Contours<'a> {
    pub(crate) function: &'a Function,
    lines: Vec<Vec<(f64, f64)>>,
}

impl<'a> Contours<'a> {
    pub(crate) fn new(function: &'a Function) -> Result<Self> {
        let [x, y] = ranges(function);
        let step = |range: &Range<f64>| (range.end - range.start) / (SAMPLES - 1) as f64;
        let place = |range: &Range<f64>, i: usize| (range.start + step(range) * i as f64) as f32;
        let samples = (0..SAMPLES * SAMPLES).map(|i| [place(&x, i % SAMPLES), place(&y, i / SAMPLES)]);
        let values: Vec<f64> = samples.map(|point| f64::from((function.value)(point))).collect();
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
        let levels = if function.logarithmic { LOGARITHMIC_LEVELS } else { LEVELS };
        // From a thousandth of the height up where the logarithm is taken.
        let level = |i: usize| {
            let share = (i + 1) as f64 / (levels + 1) as f64;
            let share = if function.logarithmic { 1e-3_f64.powf(1.0 - share) } else { share };
            low + share * (high - low)
        };
        let levels: Vec<_> = (0..levels).map(level).collect();
        // The crate takes a sample for a cell: its middle lies half a step further.
        let contours = ContourBuilder::new(SAMPLES, SAMPLES, true)
            .x_origin(x.start - step(&x) / 2.0)
            .y_origin(y.start - step(&y) / 2.0)
            .x_step(step(&x))
            .y_step(step(&y))
            .lines(&values, &levels)?;
        let rings = contours.iter().flat_map(|contour| &contour.geometry().0);
        let lines = rings.flat_map(|ring| {
            let points: Vec<_> = ring.points().map(|point| [point.x(), point.y()]).collect();
            inside(function, &points, 1.0 / 200.0)
        });
        Ok(Self { function, lines: lines.collect() })
    }

    /// Axes and contour lines on an area.
    pub(crate) fn draw<'b, B: DrawingBackend>(
        &self,
        area: &'b DrawingArea<B, Shift>,
        title: &str,
    ) -> Result<Chart<'b, B>>
    where
        B::ErrorType: 'static,
    {
        let [x, y] = ranges(self.function);
        let mut chart = frame(area, title, (x, y), ["x", "y"])?;
        for line in &self.lines {
            chart.draw_series([PathElement::new(line.clone(), LINE)])?;
        }
        Ok(chart)
    }

    /// Crosses at the minima, over what was drawn before.
    pub(crate) fn mark<B: DrawingBackend>(&self, chart: &mut Chart<'_, B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let minima = self.function.minima.iter().map(|&minimum| Cross::new(pair(minimum), 5, BLACK.stroke_width(2)));
        chart.draw_series(minima)?;
        Ok(())
    }
}

/// A chart with labels of a size that small panels can bear.
pub(crate) fn frame<'b, B: DrawingBackend>(
    area: &'b DrawingArea<B, Shift>,
    title: &str,
    (x, y): (Range<f64>, Range<f64>),
    [x_name, y_name]: [&str; 2],
) -> Result<Chart<'b, B>>
where
    B::ErrorType: 'static,
{
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .caption(title, ("sans-serif", 18))
        .x_label_area_size(38)
        .y_label_area_size(46)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc(x_name)
        .y_desc(y_name)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|value| label(*value))
        .y_label_formatter(&|value| label(*value))
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .draw()?;
    Ok(chart)
}

fn label(value: f64) -> String {
    format!("{}", (value * 1e3).round() / 1e3)
}

/// What is drawn of the plane.
pub(crate) fn ranges(function: &Function) -> [Range<f64>; 2] {
    function.window.map(|(low, high)| f64::from(low)..f64::from(high))
}

/// As plotters takes points.
pub(crate) fn pair([x, y]: [f32; 2]) -> (f64, f64) {
    (x.into(), y.into())
}

/// The stretches of a line that lie within the window, without points nearer to the one before than a share `apart` of the
/// window; plotters draws over its frame otherwise.
pub(crate) fn inside(function: &Function, line: &[[f64; 2]], apart: f64) -> Vec<Vec<(f64, f64)>> {
    let [x, y] = ranges(function);
    let strictly = |range: &Range<f64>, at: f64| range.start < at && at < range.end;
    let stretches = line.split(|&[at_x, at_y]| !strictly(&x, at_x) || !strictly(&y, at_y));
    let thin = |stretch: &[[f64; 2]]| {
        let mut kept: Vec<(f64, f64)> = Vec::new();
        for (i, &[at_x, at_y]) in stretch.iter().enumerate() {
            let near = |&(last_x, last_y): &(f64, f64)| {
                let (dx, dy) = ((at_x - last_x) / (x.end - x.start), (at_y - last_y) / (y.end - y.start));
                dx.hypot(dy) < apart
            };
            if i + 1 == stretch.len() || !kept.last().is_some_and(near) {
                kept.push((at_x, at_y));
            }
        }
        kept
    };
    stretches.filter(|stretch| !stretch.is_empty()).map(thin).flat_map(|stretch| without_spikes(&stretch)).collect()
}

/// The same line in pieces that end where it turns back: plotters would draw a wide one with a spike there.
fn without_spikes(line: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let mut pieces: Vec<Vec<_>> = vec![Vec::new()];
    for (i, &at) in line.iter().enumerate() {
        let last = pieces.len() - 1;
        pieces[last].push(at);
        if let (Some(before), Some(after)) = (i.checked_sub(1).map(|i| line[i]), line.get(i + 1)) {
            let turn = (at.0 - before.0) * (after.0 - at.0) + (at.1 - before.1) * (after.1 - at.1);
            if turn < 0.0 {
                pieces.push(vec![at]);
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use examples_common::functions::FUNCTIONS;

    /// Half a cell beside their places, values along a line would differ by several times as much.
    #[test]
    fn a_line_has_one_value() {
        let saddle = FUNCTIONS.iter().find(|function| function.name == "saddle").expect("a saddle");
        let contours = Contours::new(saddle).expect("lines");
        assert!(contours.lines.len() >= LEVELS);
        for line in &contours.lines {
            let values = || line.iter().map(|&(x, y)| (saddle.value)([x as f32, y as f32]));
            let (low, high) = (values().fold(f32::MAX, f32::min), values().fold(f32::MIN, f32::max));
            assert!(high - low < 2e-3, "{low} to {high}");
        }
    }

    #[test]
    fn lines_end_at_the_window_and_where_they_turn_back() {
        let saddle = FUNCTIONS.iter().find(|function| function.name == "saddle").expect("a saddle");
        let line =
            [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [f64::NAN, 0.0], [1.0, 1.0], [1.0, -1.0], [1.001, -1.0], [1.0, 1.0]];
        let parts = inside(saddle, &line, 0.01);
        let back = [(1.0, -1.0), (1.0, 1.0)];
        assert_eq!(parts, [vec![(0.0, 0.0), (1.0, 0.0)], vec![(1.0, 1.0), (1.0, -1.0)], back.to_vec()]);
    }
}
