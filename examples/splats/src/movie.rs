//! The fit as an animated GIF.

use std::fs::File;
use std::path::Path;

use crate::Result;
use crate::picture::Picture;

const FRAMES: u32 = 12;
/// Hundredths of a second that a frame stays; the last one stays longer.
const HUNDREDTHS: u16 = 25;
const LAST_HUNDREDTHS: u16 = 250;

/// Steps whose pictures are frames: more at the beginning, where more happens; the last is the end.
pub(crate) fn frames(steps: u32) -> Vec<u32> {
    examples_common::frames::spread(steps, FRAMES, 2)
}

/// Writes the frames.
pub(crate) fn save(frames: &[Picture], path: &Path) -> Result<()> {
    let Some(first) = frames.first() else { return Err("a film needs a frame".into()) };
    let [width, height] = [first.width as u16, first.height as u16];
    let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut encoder = gif::Encoder::new(file, width, height, &[])?;
    encoder.set_repeat(gif::Repeat::Infinite)?;
    for (i, picture) in frames.iter().enumerate() {
        let mut frame = gif::Frame::from_rgb_speed(width, height, picture.pixels.as_flattened(), 10);
        frame.delay = if i + 1 == frames.len() { LAST_HUNDREDTHS } else { HUNDREDTHS };
        encoder.write_frame(&frame)?;
    }
    Ok(())
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
    fn films_have_their_frames() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("film.gif");
        let pictures = [[255, 0, 0], [0, 0, 255]].map(|pixel| Picture { width: 3, height: 2, pixels: vec![pixel; 6] });
        save(&pictures, &path).expect("written");
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(File::open(&path).expect("the file")).expect("a GIF");
        for picture in pictures {
            let frame = decoder.read_next_frame().expect("readable").expect("as many frames");
            assert_eq!(frame.buffer[..3], picture.pixels[0]);
        }
        assert!(decoder.read_next_frame().expect("readable").is_none());
    }
}
