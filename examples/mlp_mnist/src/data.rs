//! Sources of the digits: IDX files in a folder, a download, or the built-in generator.

pub mod digits;
#[cfg(feature = "download")]
pub mod download;
pub mod idx;

use std::path::Path;

use crate::Result;

/// A public mirror of MNIST; the original host asks for restraint.
pub const MIRROR: &str = "https://storage.googleapis.com/cvdf-datasets/mnist/";

/// Classes of every data set here: the digits 0 to 9.
pub const CLASSES: usize = 10;

/// Images of one byte per pixel, and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// `[len, pixels]`, 0 for the background.
    pub images: Vec<u8>,
    /// One class below [`CLASSES`] per image.
    pub labels: Vec<u8>,
    pub pixels: usize,
}

impl Examples {
    #[expect(clippy::len_without_is_empty, reason = "no data set is empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn image(&self, index: usize) -> &[u8] {
        &self.images[index * self.pixels..][..self.pixels]
    }
}

#[derive(Debug)]
pub struct Data {
    pub train: Examples,
    pub test: Examples,
}

/// The four files of MNIST, and of every data set that copies its names.
pub struct Files<'a> {
    images: &'a str,
    labels: &'a str,
}

pub const TRAIN: Files<'static> = Files { images: "train-images-idx3-ubyte", labels: "train-labels-idx1-ubyte" };
pub const TEST: Files<'static> = Files { images: "t10k-images-idx3-ubyte", labels: "t10k-labels-idx1-ubyte" };

/// Reads the four files from `folder`, each with or without `.gz` at its end.
pub fn read_folder(folder: &Path) -> Result<Data> {
    if !folder.is_dir() {
        return Err(
            format!("{} is not a folder: give --data the folder with the four IDX files", folder.display()).into()
        );
    }
    let find = |name: &str| {
        [format!("{name}.gz"), name.to_owned()].into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
    };
    let missing: Vec<&str> = [TRAIN.images, TRAIN.labels, TEST.images, TEST.labels]
        .into_iter()
        .filter(|name| find(name).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "{} lacks {} (each may end in .gz): put the files there, or let --download fetch them",
            folder.display(),
            missing.join(", "),
        )
        .into());
    }
    let read = |files: &Files| -> Result<Examples> {
        let path = |name: &str| find(name).ok_or_else(|| format!("{name} has just gone from {}", folder.display()));
        Ok(idx::read_examples(&path(files.images)?, &path(files.labels)?)?)
    };
    let data = Data { train: read(&TRAIN)?, test: read(&TEST)? };
    if data.train.pixels != data.test.pixels {
        return Err(format!(
            "{}: the training images have {} pixels and the test images {}; use files of one data set",
            folder.display(),
            data.train.pixels,
            data.test.pixels,
        )
        .into());
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_the_files_is_told_which_are_missing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("train-labels-idx1-ubyte"), []).expect("written");
        let message = read_folder(folder.path()).expect_err("three files are missing").to_string();
        assert!(
            message.contains("lacks train-images-idx3-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"),
            "{message}"
        );
        assert!(message.contains("--download"), "{message}");
        let message = read_folder(&folder.path().join("nowhere")).expect_err("no such folder").to_string();
        assert!(message.contains("nowhere is not a folder"), "{message}");
    }

    #[test]
    fn a_folder_is_read_with_gzip_and_raw_files_mixed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
        write("train-images-idx3-ubyte.gz", &idx::tests::gzip(&idx::tests::images(3, 2, 2)));
        write("train-labels-idx1-ubyte", &idx::tests::labels(&[7, 0, 9]));
        write("t10k-images-idx3-ubyte", &idx::tests::images(1, 2, 2));
        write("t10k-labels-idx1-ubyte.gz", &idx::tests::gzip(&idx::tests::labels(&[4])));
        let data = read_folder(folder.path()).expect("readable");
        assert_eq!(data.train.labels, [7, 0, 9]);
        assert_eq!(data.train.image(2), [8, 9, 10, 11]);
        assert_eq!(data.test, Examples { images: vec![0, 1, 2, 3], labels: vec![4], pixels: 4 });

        write("t10k-images-idx3-ubyte", &idx::tests::images(1, 2, 3));
        let message = read_folder(folder.path()).expect_err("two sizes").to_string();
        assert!(message.contains("4 pixels and the test images 6"), "{message}");
    }
}
