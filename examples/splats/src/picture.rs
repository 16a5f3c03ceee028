//! A picture of 8 bits per channel: PNG files and the peak signal-to-noise ratio.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};

use crate::Result;

/// Maximum side, in pixels.
const MAX_SIDE: u32 = 1_024;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Red, green and blue, row by row.
    pub(crate) pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// Reads a PNG file of any colour type; alpha is dropped.
    ///
    /// # Errors
    /// A file that cannot be read, is no PNG, or is larger than the maximum.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        Self::decode(path).map_err(|error| format!("--image {}: {error}", path.display()).into())
    }

    fn decode(path: &Path) -> Result<Self> {
        let mut decoder = Decoder::new(File::open(path)?);
        decoder.set_transformations(Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let (width, height) = reader.info().size();
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(format!("{width} x {height} pixels; each side may have {MAX_SIDE} at most").into());
        }
        let mut bytes = vec![0; reader.output_buffer_size()];
        let frame = reader.next_frame(&mut bytes)?;
        let channels = frame.color_type.samples();
        let pixel = |bytes: &[u8]| match *bytes {
            [grey] | [grey, _] => [grey; 3],
            ref colours => [colours[0], colours[1], colours[2]],
        };
        let pixels = bytes[..frame.buffer_size()].chunks_exact(channels).map(pixel).collect();
        Ok(Self { width: width as usize, height: height as usize, pixels })
    }

    /// Writes a PNG file.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut encoder = Encoder::new(BufWriter::new(file), self.width as u32, self.height as u32);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.pixels.as_flattened())?;
        writer.finish()?;
        Ok(())
    }

    /// Channels from 0 to 1.
    pub(crate) fn colours(&self) -> Vec<[f32; 3]> {
        self.pixels.iter().map(|pixel| pixel.map(|channel| f32::from(channel) / 255.0)).collect()
    }

    /// Peak signal-to-noise ratio of this picture against another of its size, in dB.
    pub(crate) fn psnr(&self, other: &Self) -> f64 {
        let pairs = self.pixels.as_flattened().iter().zip(other.pixels.as_flattened());
        let squares: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
        psnr(squares as f64 / 255.0_f64.powi(2), self.pixels.len())
    }
}

/// The ratio in dB for a sum of squared errors of channels from 0 to 1.
pub(crate) fn psnr(squares: f64, pixels: usize) -> f64 {
    10.0 * ((3 * pixels) as f64 / squares).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_survive_their_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("picture.png");
        let pixels = (0..15).map(|i| [i, 255 - i, 16 * i]).collect();
        let picture = Picture { width: 5, height: 3, pixels };
        picture.save(&path).expect("written");
        assert_eq!(Picture::load(&path).expect("read"), picture);
    }

    #[test]
    fn grey_pictures_of_16_bits_have_three_equal_channels() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grey.png");
        let mut encoder = Encoder::new(File::create(&path).expect("a file"), 2, 1);
        encoder.set_color(ColorType::GrayscaleAlpha);
        encoder.set_depth(BitDepth::Sixteen);
        let mut writer = encoder.write_header().expect("a header");
        writer.write_image_data(&[7, 0, 255, 0, 200, 0, 0, 0]).expect("pixels");
        writer.finish().expect("an end");
        assert_eq!(Picture::load(&path).expect("read").pixels, [[7; 3], [200; 3]]);
    }

    #[test]
    fn wrong_files_are_errors_with_their_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = |name: &str| Picture::load(&folder.path().join(name)).expect_err(name).to_string();
        assert!(error("none.png").contains("none.png"), "{}", error("none.png"));
        std::fs::write(folder.path().join("words.png"), "no picture").expect("written");
        assert!(error("words.png").contains("words.png"), "{}", error("words.png"));
        let wide = Picture { width: 1_025, height: 1, pixels: vec![[0; 3]; 1_025] };
        wide.save(&folder.path().join("wide.png")).expect("written");
        assert!(error("wide.png").contains("1025 x 1 pixels"), "{}", error("wide.png"));
    }

    #[test]
    fn the_ratio_is_that_of_the_mean_square() {
        let picture = |level| Picture { width: 2, height: 2, pixels: vec![[level; 3]; 4] };
        // A uniform error of 51 / 255 = 1 / 5: 10 log10(25).
        assert!((picture(51).psnr(&picture(102)) - 13.979_4).abs() < 1e-4);
        assert_eq!(picture(1).psnr(&picture(1)), f64::INFINITY);
    }
}
