//! The ratio and the number of splats over the steps.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::fit::Point;
use crate::picture::Picture;
use examples_common::files;
use examples_common::picture::PALETTE;

pub(crate) struct Curves<'a> {
    /// Before each step, and after the last.
    pub(crate) points: &'a [Point],
    pub(crate) target: &'a Picture,
}

impl files::Picture for Curves<'_> {
    fn size(&self) -> (u32, u32) {
        (1_000, 400)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let psnr: Vec<_> = self.points.iter().map(|point| point.psnr(self.target)).collect();
        let splats: Vec<_> = self.points.iter().map(|point| f64::from(point.splats)).collect();
        let panels = area.split_evenly((1, 2));
        panel(&panels[0], "Peak signal-to-noise ratio", "dB", &psnr, PALETTE[0])?;
        panel(&panels[1], "Splats", "live rows", &splats, PALETTE[1])
    }
}

fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    y_label: &str,
    values: &[f64],
    colour: RGBColor,
) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_right(24)
        .caption(title, ("sans-serif", 22))
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..values.len() as f64, range(values))?;
    chart
        .configure_mesh()
        .x_desc("optimizer step")
        .y_desc(y_label)
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 16))
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    let points = values.iter().enumerate().map(|(step, &value)| (step as f64, value));
    chart.draw_series(LineSeries::new(points.filter(|(_, value)| value.is_finite()), colour.stroke_width(2)))?;
    Ok(())
}

/// From the smallest to the largest finite value, with a little air.
fn range(values: &[f64]) -> Range<f64> {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    if low > high {
        return 0.0..1.0;
    }
    let air = 0.05 * (high - low).max(1.0);
    low - air..high + air
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_of_one_point_and_of_a_perfect_fit_are_drawn() {
        let folder = tempfile::tempdir().expect("a folder");
        examples_common::picture::register_fonts().expect("fonts");
        let target = Picture { width: 1, height: 1, pixels: vec![[0; 3]] };
        for points in [vec![], vec![Point { squares: 1.0, splats: 5 }], vec![Point { squares: 0.0, splats: 5 }; 3]] {
            let curves = Curves { points: &points, target: &target };
            let [svg, _] = files::save(&curves, folder.path(), "curves").expect("drawn");
            let svg = std::fs::read_to_string(svg).expect("written");
            for words in ["Peak signal-to-noise ratio", "dB", "Splats", "optimizer step"] {
                assert!(svg.contains(words), "{words} is missing");
            }
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
