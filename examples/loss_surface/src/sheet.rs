//! Surfaces side by side as one picture, with the colours explained.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::surface::{Bands, Surface};
use crate::{contours, relief};
use examples_common::files::Picture;

const PANEL: (u32, u32) = (560, 560);
/// Width of the colours' column.
const KEY: u32 = 120;

pub(crate) enum Panel<'a> {
    Contours(&'a Surface),
    Relief(&'a Surface),
}

pub(crate) struct Sheet<'a> {
    panels: Vec<Panel<'a>>,
    bands: Bands,
}

impl<'a> Sheet<'a> {
    pub(crate) fn new(panels: Vec<Panel<'a>>) -> Self {
        let surfaces: Vec<_> =
            panels.iter().map(|(Panel::Contours(surface) | Panel::Relief(surface))| *surface).collect();
        Self { bands: Bands::new(&surfaces), panels }
    }

    fn key<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let edges = self.bands.edges();
        let (low, high) = (self.bands.range.start, self.bands.range.end);
        let (top, bottom) = (60.0, f64::from(PANEL.1) - 70.0);
        let y = |height: f64| (bottom + (top - bottom) * (height - low) / (high - low)) as i32;
        area.draw(&Text::new("loss (nats)", (0, 24), ("sans-serif", 16)))?;
        for (band, edges) in edges.windows(2).enumerate() {
            let corners = [(4, y(edges[0])), (28, y(edges[1]))];
            area.draw(&Rectangle::new(corners, self.bands.colour(band).filled()))?;
        }
        for bound in &self.bands.bounds {
            area.draw(&Text::new(format!("{bound}"), (36, y(bound.log10()) - 8), ("sans-serif", 14)))?;
        }
        Ok(())
    }
}

impl Picture for Sheet<'_> {
    fn size(&self) -> (u32, u32) {
        (PANEL.0 * self.panels.len() as u32 + KEY, PANEL.1)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let (panels, key) = area.split_horizontally(self.size().0 - KEY);
        for (area, panel) in panels.split_evenly((1, self.panels.len())).iter().zip(&self.panels) {
            match panel {
                Panel::Contours(surface) => contours::draw(area, surface, &self.bands)?,
                Panel::Relief(surface) => relief::draw(area, surface, &self.bands)?,
            }
        }
        self.key(&key)
    }
}
