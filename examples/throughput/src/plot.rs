//! Rate against size, a curve per engine, rule and clipping.

use std::collections::BTreeMap;
use std::path::Path;

use plotters::prelude::*;

use crate::Result;
use crate::row::{Row, count};
use examples_common::picture::{PALETTE, register_fonts};

const SIZE: (u32, u32) = (1_100, 700);

/// Draws the rows; clipped steps have hollow marks.
pub(crate) fn draw(rows: &[Row], path: &Path) -> Result<()> {
    let svg = render(rows).map_err(|error| format!("the rates cannot be drawn: {error}"))?;
    std::fs::write(path, svg)
        .map_err(|error| format!("{} cannot be written: {error}; give --plot another file", path.display()).into())
}

/// Points by engine, rule and whether it clips.
type Curves<'a> = BTreeMap<(&'a str, &'a str, bool), Vec<(f64, f64)>>;

fn render(rows: &[Row]) -> Result<String> {
    register_fonts()?;
    let mut curves = Curves::new();
    for row in rows {
        let points = curves.entry((row.engine, &row.rule, row.clip)).or_default();
        points.push((row.elements as f64, row.bytes_per_second / 1e9));
    }
    let points = || curves.values().flatten();
    let least = points().map(|point| point.0).fold(f64::INFINITY, f64::min).min(1e9);
    let most = points().map(|point| point.0).fold(0.0, f64::max).max(2.0 * least);
    let fastest = points().map(|point| point.1).fold(1e-9, f64::max);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(16)
            .margin_right(30)
            .caption("Rate of a step", ("sans-serif", 24))
            .x_label_area_size(50)
            .y_label_area_size(80)
            .build_cartesian_2d((least / 1.3..most * 1.3).log_scale().base(2.0), 0.0..fastest * 1.15)?;
        chart
            .configure_mesh()
            .x_desc("parameters")
            .y_desc("bytes read and written per second (GB/s)")
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 17))
            .x_label_formatter(&|elements| count(elements.round() as usize))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (i, ((engine, rule, clip), points)) in curves.iter().enumerate() {
            let colour = PALETTE[i / 2 % PALETTE.len()];
            let mark = if *clip { colour.stroke_width(2) } else { colour.filled() };
            let clipped = if *clip { ", clipped" } else { "" };
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            chart
                .draw_series(points.iter().map(|&point| Circle::new(point, 5, mark)))?
                .label(format!("{rule} on the {}{clipped}", engine.to_uppercase()))
                .legend(move |(x, y)| Circle::new((x + 9, y), 5, mark));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(("sans-serif", 15))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        root.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::row;

    #[test]
    fn the_drawing_has_its_curves_and_its_words() {
        let svg = render(&[row(65_536), row(1 << 20)]).expect("drawn");
        for words in ["Rate of a step", "parameters", "GB/s", "64 Ki", "adamw on the GPU, clipped"] {
            assert!(svg.contains(words), "{words} is missing");
        }
        assert!(svg.contains("<polyline"), "{svg}");
        assert!(render(&[]).is_ok(), "nothing measured, nothing drawn");
    }
}
