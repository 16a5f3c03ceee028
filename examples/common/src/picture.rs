//! What the pictures of the examples share: colours and letters.

use plotters::coord::CoordTranslate;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Okabe and Ito's palette without its yellow, which is hard to see on white: blue, vermilion, green, purple, sky
/// blue, orange, black. Distinct for colour-blind eyes; the first two also in grey.
pub const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x00, 0x00),
];

/// Makes "sans-serif" known: plotters looks for no fonts of the system here, so that pictures are the same everywhere.
/// To be called before anything is drawn; again does no harm.
pub fn register_fonts() -> Result<(), &'static str> {
    register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular()).map_err(|_| "the font cannot be read")
}

/// Draws the labels of a chart's series in a framed box, in letters of that size.
///
/// # Errors
/// The errors of plotters.
pub fn draw_legend<'a, B: DrawingBackend + 'a>(
    chart: &mut ChartContext<'a, B, impl CoordTranslate>,
    position: SeriesLabelPosition,
    size: u32,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    chart
        .configure_series_labels()
        .position(position)
        .label_font(("sans-serif", size))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
}
