//! The IDX format of MNIST: a big-endian header (two zero bytes, the element type, the number of dimensions, each
//! dimension as a u32), then the elements. Described at <https://yann.lecun.org/exdb/mnist/>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use thiserror::Error;

use super::{CLASSES, Examples};

/// The element type of MNIST's files, the only one read here.
const UNSIGNED_BYTE: u8 = 0x08;

#[derive(Debug, Error)]
pub enum IdxError {
    #[error("{} cannot be read: {source}; check the file and its permissions", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{} begins with the bytes {found:02x?}, but an IDX file of {dimensions}-dimensional bytes begins with \
         [00, 00, 08, 0{dimensions}]; is it another of the four files, or a web page saved under this name?",
        path.display()
    )]
    Magic { path: PathBuf, found: [u8; 4], dimensions: u8 },
    #[error("{} ends inside its header of {expected} bytes; fetch the file again", path.display())]
    Header { path: PathBuf, expected: usize },
    #[error("{} announces {shape:?} elements, more than memory has; fetch the file again", path.display())]
    TooLarge { path: PathBuf, shape: Vec<usize> },
    #[error("{} announces {shape:?} elements, at least one of each is needed; fetch the file again", path.display())]
    Empty { path: PathBuf, shape: Vec<usize> },
    #[error(
        "{} holds {found} elements where its header announces {expected} ({shape:?}); fetch the file again",
        path.display()
    )]
    Truncated { path: PathBuf, shape: Vec<usize>, expected: usize, found: usize },
    #[error("{} goes on behind the {expected} elements it announces; fetch the file again", path.display())]
    Trailing { path: PathBuf, expected: usize },
    #[error(
        "{} gives image {index} the label {label}, but labels go from 0 to {}; is it a data set of more classes?",
        path.display(),
        CLASSES - 1
    )]
    Label { path: PathBuf, index: usize, label: u8 },
    #[error(
        "{} holds {image_count} images and {} {label_count} labels; use two files of one data set",
        images.display(),
        labels.display()
    )]
    Count { images: PathBuf, image_count: usize, labels: PathBuf, label_count: usize },
}

/// Reads images `[n, rows, columns]` and their labels `[n]`.
pub fn read_examples(image_path: &Path, label_path: &Path) -> Result<Examples, IdxError> {
    let open = |path: &Path| {
        File::open(path).map(BufReader::new).map_err(|source| IdxError::Read { path: path.to_owned(), source })
    };
    read_examples_from((image_path, open(image_path)?), (label_path, open(label_path)?))
}

/// Reads images and labels that lie elsewhere than in files: the paths are their names in errors.
pub fn read_examples_from(
    (image_path, images): (&Path, impl Read),
    (label_path, labels): (&Path, impl Read),
) -> Result<Examples, IdxError> {
    let (shape, images) = read::<3>(image_path, images)?;
    let ([count], labels) = read::<1>(label_path, labels)?;
    if shape[0] != count {
        return Err(IdxError::Count {
            images: image_path.to_owned(),
            image_count: shape[0],
            labels: label_path.to_owned(),
            label_count: count,
        });
    }
    if let Some(index) = labels.iter().position(|&label| usize::from(label) >= CLASSES) {
        return Err(IdxError::Label { path: label_path.to_owned(), index, label: labels[index] });
    }
    Ok(Examples { images, labels, pixels: shape[1] * shape[2] })
}

/// Reads one file of bytes in `D` dimensions, compressed with gzip or not: the first bytes tell.
fn read<const D: usize>(path: &Path, mut file: impl Read) -> Result<([usize; D], Vec<u8>), IdxError> {
    let failed = |source| IdxError::Read { path: path.to_owned(), source };
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start).map_err(failed)?;
    let compressed = start == [0x1f, 0x8b];
    let whole = io::Cursor::new(start).chain(file);
    let mut content: Box<dyn Read + '_> =
        if compressed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };

    // Where a gzip stream breaks off, what came before counts first: the error then says how much is missing.
    let mut take = |limit: usize| -> Result<Vec<u8>, IdxError> {
        let mut bytes = Vec::new();
        match content.by_ref().take(limit as u64).read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof || bytes.is_empty() => Err(failed(error)),
            _ => Ok(bytes),
        }
    };

    let header = take(4 + 4 * D)?;
    let Some((magic, dimensions)) = header.split_first_chunk::<4>() else {
        return Err(IdxError::Header { path: path.to_owned(), expected: 4 + 4 * D });
    };
    if *magic != [0, 0, UNSIGNED_BYTE, D as u8] {
        return Err(IdxError::Magic { path: path.to_owned(), found: *magic, dimensions: D as u8 });
    }
    if dimensions.len() < 4 * D {
        return Err(IdxError::Header { path: path.to_owned(), expected: 4 + 4 * D });
    }
    let mut shape = [0; D];
    for (size, bytes) in shape.iter_mut().zip(dimensions.chunks_exact(4)) {
        *size = bytes.iter().fold(0, |size, &byte| size << 8 | usize::from(byte));
    }
    // Memory is taken as elements arrive, so a header that lies costs none.
    let expected = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    let Some(expected) = expected.filter(|&expected| expected < isize::MAX as usize) else {
        return Err(IdxError::TooLarge { path: path.to_owned(), shape: shape.to_vec() });
    };
    if expected == 0 {
        return Err(IdxError::Empty { path: path.to_owned(), shape: shape.to_vec() });
    }
    let elements = take(expected)?;
    if elements.len() < expected {
        return Err(IdxError::Truncated {
            path: path.to_owned(),
            shape: shape.to_vec(),
            expected,
            found: elements.len(),
        });
    }
    if !take(1)?.is_empty() {
        return Err(IdxError::Trailing { path: path.to_owned(), expected });
    }
    Ok((shape, elements))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    fn idx(shape: &[u32], elements: impl IntoIterator<Item = u8>) -> Vec<u8> {
        let mut bytes = vec![0, 0, UNSIGNED_BYTE, shape.len() as u8];
        bytes.extend(shape.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(elements);
        bytes
    }

    /// Images whose elements count upwards from 0.
    pub(in super::super) fn images(count: u32, rows: u32, columns: u32) -> Vec<u8> {
        idx(&[count, rows, columns], (0..count * rows * columns).map(|i| i as u8))
    }

    pub(in super::super) fn labels(labels: &[u8]) -> Vec<u8> {
        idx(&[labels.len() as u32], labels.iter().copied())
    }

    pub(in super::super) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("memory takes everything");
        encoder.finish().expect("memory takes everything")
    }

    fn read_bytes(image_bytes: &[u8], label_bytes: &[u8]) -> Result<Examples, IdxError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [images, labels] = [("images", image_bytes), ("labels", label_bytes)].map(|(name, bytes)| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        });
        read_examples(&images, &labels)
    }

    fn message(image_bytes: &[u8], label_bytes: &[u8]) -> String {
        read_bytes(image_bytes, label_bytes).expect_err("the files are wrong").to_string()
    }

    #[test]
    fn raw_and_gzip_files_read_the_same() {
        let (images, labels) = (images(2, 3, 5), labels(&[0, 9]));
        let raw = read_bytes(&images, &labels).expect("readable");
        assert_eq!(raw.images, (0..30).collect::<Vec<u8>>());
        assert_eq!((raw.labels.as_slice(), raw.pixels), ([0, 9].as_slice(), 15));
        assert_eq!(raw, read_bytes(&gzip(&images), &gzip(&labels)).expect("readable"));
    }

    #[test]
    fn another_kind_of_file_is_named_with_its_first_bytes() {
        let found = message(&labels(&[1]), &labels(&[1]));
        assert!(found.contains("images begins with the bytes [00, 00, 08, 01]"), "{found}");
        assert!(found.contains("begins with [00, 00, 08, 03]"), "{found}");
        let found = message(&images(1, 1, 1), b"<!DOCTYPE html>");
        assert!(found.contains("labels begins with the bytes [3c, 21, 44, 4f]"), "{found}");
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_and_never_a_panic() {
        let (whole_images, whole_labels) = (images(2, 3, 5), labels(&[0, 9]));
        for length in 0..whole_images.len() {
            match read_bytes(&whole_images[..length], &whole_labels).expect_err("cut") {
                IdxError::Header { expected: 16, .. } => assert!(length < 16),
                IdxError::Truncated { expected: 30, found, .. } => assert_eq!(found, length - 16),
                other => panic!("{other}"),
            }
        }
        let compressed = gzip(&whole_images);
        for length in 0..compressed.len() {
            read_bytes(&compressed[..length], &whole_labels).expect_err("cut");
        }
    }

    #[test]
    fn a_header_that_announces_more_than_there_is_costs_no_memory() {
        let huge = idx(&[u32::MAX, 1, 1], [1, 2, 3]);
        assert!(matches!(read_bytes(&huge, &[]), Err(IdxError::Truncated { expected: 0xffff_ffff, found: 3, .. })));
        let beyond = idx(&[u32::MAX, u32::MAX, u32::MAX], [1, 2, 3]);
        assert!(matches!(read_bytes(&beyond, &[]), Err(IdxError::TooLarge { .. })));
    }

    #[test]
    fn empty_surplus_and_mismatched_files_are_refused() {
        assert!(matches!(read_bytes(&images(0, 28, 28), &labels(&[])), Err(IdxError::Empty { .. })));
        let mut surplus = images(1, 2, 2);
        surplus.push(0);
        assert!(matches!(read_bytes(&surplus, &labels(&[1])), Err(IdxError::Trailing { expected: 4, .. })));
        let found = message(&images(3, 2, 2), &labels(&[1, 2]));
        assert!(found.contains("holds 3 images") && found.contains("2 labels"), "{found}");
        let found = message(&images(3, 2, 2), &labels(&[1, 10, 2]));
        assert!(found.contains("gives image 1 the label 10, but labels go from 0 to 9"), "{found}");
    }
}
