//! One drawing, as SVG and as PNG.

use std::error::Error;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;

/// Something to draw, whatever the kind of file.
pub trait Picture {
    /// Width and height, in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws on a white area of that size.
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static;
}

/// Writes `name.svg` and `name.png` into a folder that exists; gives their paths.
pub fn save(picture: &impl Picture, folder: &Path, name: &str) -> Result<[PathBuf; 2], Box<dyn Error>> {
    let [svg, png] = ["svg", "png"].map(|kind| folder.join(format!("{name}.{kind}")));
    fill(picture, &SVGBackend::new(&svg, picture.size()).into_drawing_area())?;
    fill(picture, &BitMapBackend::new(&png, picture.size()).into_drawing_area())?;
    Ok([svg, png])
}

fn fill<B: DrawingBackend>(picture: &impl Picture, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    picture.draw(area)?;
    area.present()?;
    Ok(())
}
