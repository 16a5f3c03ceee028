//! Rate against size, a curve per optimizer.

use std::error::Error;

use plotters::prelude::*;

use crate::picture::{PALETTE, draw_legend, register_fonts};

const SIZE: (u32, u32) = (1_100, 700);

pub struct Curve {
    pub label: String,
    /// Parameters, and bytes per second.
    pub points: Vec<(f64, f64)>,
    /// Index into the palette, modulo its length.
    pub colour: usize,
    /// Draws rings instead of discs.
    pub hollow: bool,
}

/// The picture as SVG.
///
/// # Errors
/// The errors of plotters.
pub fn render(caption: &str, curves: &[Curve]) -> Result<String, Box<dyn Error>> {
    register_fonts()?;
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let least = points().map(|point| point.0).fold(f64::INFINITY, f64::min).min(1e9);
    let most = points().map(|point| point.0).fold(0.0, f64::max).max(2.0 * least);
    let fastest = points().map(|point| point.1 / 1e9).fold(1e-9, f64::max);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(16)
            .margin_right(30)
            .caption(caption, ("sans-serif", 24))
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
        for Curve { label, points, colour, hollow } in curves {
            let colour = PALETTE[colour % PALETTE.len()];
            let mark = if *hollow { colour.stroke_width(2) } else { colour.filled() };
            let points = || points.iter().map(|&(elements, rate)| (elements, rate / 1e9));
            chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
            chart
                .draw_series(points().map(|point| Circle::new(point, 5, mark)))?
                .label(label)
                .legend(move |(x, y)| Circle::new((x + 9, y), 5, mark));
        }
        draw_legend(&mut chart, SeriesLabelPosition::UpperLeft, 15)?;
        root.present()?;
    }
    Ok(svg)
}

/// 65,536 as 64 Ki.
pub fn count(elements: usize) -> String {
    let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    match units.into_iter().find(|(unit, _)| elements > 0 && elements.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", elements / unit),
        None => elements.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawing_has_its_curves_and_its_words() {
        let curve = Curve { label: "adamw".to_owned(), points: vec![(65_536.0, 1e9)], colour: 8, hollow: true };
        let svg = render("Rate of a step", &[curve]).expect("drawn");
        for words in ["Rate of a step", "parameters", "GB/s", "64 Ki", "adamw", "<polyline"] {
            assert!(svg.contains(words), "{words} is missing");
        }
        assert!(render("Nothing", &[]).is_ok(), "nothing measured, nothing drawn");
    }

    #[test]
    fn counts_have_binary_units() {
        let counts = [0, 100, 1 << 10, 3 << 19, 1 << 30].map(count);
        assert_eq!(counts, ["0", "100", "1 Ki", "1536 Ki", "1 Gi"]);
    }
}
