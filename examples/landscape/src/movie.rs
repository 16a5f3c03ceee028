//! The race as an animated GIF: the points of every rule over contour lines.

use std::fs::File;
use std::path::{Path, PathBuf};

use plotters::prelude::*;

use crate::contours::{Contours, pair, ranges};
use crate::{Result, Run, captions};
use examples_common::functions::Function;
use examples_common::picture::PALETTE;

const PANEL: (u32, u32) = (230, 210);
const TITLE: u32 = 26;
const FRAMES: u32 = 40;
/// Seconds that a frame stays, times 100; the last one longer.
const HUNDREDTHS: u16 = 12;
const LAST_HUNDREDTHS: u16 = 200;
/// Points of a panel along each axis, more than which the eye does not tell apart.
const SIDE: usize = 16;

/// Steps to keep of so many: more at the beginning, where more happens; the last is the end.
pub(crate) fn frames(steps: u32) -> Vec<u32> {
    examples_common::frames::spread(steps, FRAMES, 3)
}

/// Writes `race.gif`; `frames` are the steps of the run's frames.
pub(crate) fn save(run: &Run, shown: &[String], frames: &[u32], folder: &Path) -> Result<PathBuf> {
    let path = folder.join("race.gif");
    let contours = Contours::new(run.function)?;
    let (rows, columns) = captions::grid(shown.len());
    let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32 + TITLE);
    let [x, y] = ranges(run.function);
    let mut film = Film::new(&path, size)?;
    for (frame, step) in frames.iter().enumerate() {
        let mut picture = vec![0; 3 * size.0 as usize * size.1 as usize];
        {
            let root = BitMapBackend::with_buffer(&mut picture, size).into_drawing_area();
            root.fill(&WHITE)?;
            root.draw(&Text::new(format!("{}, step {step}", run.function.name), (14, 6), ("sans-serif", 18)))?;
            let panels = root.margin(TITLE, 0, 0, 0).split_evenly((rows, columns));
            for ((panel, (entry, record)), colour) in panels.iter().zip(run.shown(shown)).zip(PALETTE) {
                let mut chart = contours.draw(panel, &captions::title(entry))?;
                let points = some(run.function, &record.frames[frame]).map(pair);
                let inside = points.filter(|(at_x, at_y)| x.contains(at_x) && y.contains(at_y));
                chart.draw_series(inside.map(|at| Circle::new(at, 2, colour.filled())))?;
                contours.mark(&mut chart)?;
            }
            root.present()?;
        }
        let last = frame + 1 == frames.len();
        film.add(picture, if last { LAST_HUNDREDTHS } else { HUNDREDTHS })?;
    }
    Ok(path)
}

/// The first point, and a grid of the others.
fn some(function: &Function, points: &[[f32; 2]]) -> impl Iterator<Item = [f32; 2]> {
    let side = function.side(points.len() - 1);
    let every = side.div_ceil(SIDE);
    let shown = move |i: usize| (i % side) % every == every / 2 && (i / side) % every == every / 2;
    let grid = points[1..].iter().enumerate().filter(move |&(i, _)| shown(i)).map(|(_, &point)| point);
    [points[0]].into_iter().chain(grid)
}

/// A GIF whose frames hold what changed; plotters' own would hold everything every time, in five times the bytes.
struct Film {
    encoder: gif::Encoder<File>,
    size: (u32, u32),
    last: Vec<u8>,
}

impl Film {
    fn new(path: &Path, size: (u32, u32)) -> Result<Self> {
        let mut encoder = gif::Encoder::new(File::create(path)?, size.0 as u16, size.1 as u16, &[])?;
        encoder.set_repeat(gif::Repeat::Infinite)?;
        Ok(Self { encoder, size, last: Vec::new() })
    }

    /// `picture` has three bytes per pixel.
    fn add(&mut self, picture: Vec<u8>, hundredths: u16) -> Result<()> {
        let mut pixels = Vec::with_capacity(picture.len() / 3 * 4);
        for (i, pixel) in picture.chunks_exact(3).enumerate() {
            let changed = self.last.get(3 * i..3 * i + 3) != Some(pixel);
            pixels.extend(if changed { [pixel[0], pixel[1], pixel[2], 255] } else { [0; 4] });
        }
        let mut frame = gif::Frame::from_rgba_speed(self.size.0 as u16, self.size.1 as u16, &mut pixels, 10);
        frame.delay = hundredths;
        frame.dispose = gif::DisposalMethod::Keep;
        self.encoder.write_frame(&frame)?;
        self.last = picture;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_ascend_from_the_start_to_the_end() {
        for steps in [1, 7, 2_000] {
            let frames = frames(steps);
            assert_eq!([frames[0], *frames.last().expect("some")], [0, steps]);
            assert!(frames.is_sorted_by(|a, b| a < b) && frames.len() <= FRAMES as usize, "{frames:?}");
        }
    }

    #[test]
    fn frames_on_top_of_each_other_are_the_pictures() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("film.gif");
        let pictures = [[[255, 0, 0], [0, 0, 255]], [[255, 0, 0], [0, 158, 115]], [[0; 3], [0, 158, 115]]];
        let mut film = Film::new(&path, (2, 1)).expect("a film");
        for picture in pictures {
            film.add(picture.concat(), HUNDREDTHS).expect("a frame");
        }
        drop(film);
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(File::open(&path).expect("the file")).expect("a GIF");
        let mut seen = [[0; 3]; 2];
        for picture in pictures {
            let frame = decoder.read_next_frame().expect("readable").expect("as many frames");
            for (seen, pixel) in seen.iter_mut().zip(frame.buffer.chunks_exact(4)) {
                if pixel[3] != 0 {
                    seen.copy_from_slice(&pixel[..3]);
                }
            }
            assert_eq!(seen, picture);
        }
        assert!(decoder.read_next_frame().expect("readable").is_none());
    }
}
