//! A built test binary in which shaders are broken: `include_str!` leaves their text in it as it is, so that nothing
//! need be built again for a breakage.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A copy of a test binary, to write into.
pub(crate) struct Binary {
    pub(crate) path: PathBuf,
    /// Where the text of each shader begins; wherever the compiler put it.
    places: HashMap<String, Vec<usize>>,
}

impl Binary {
    pub(crate) fn copy(from: &Path, folder: &Path) -> Result<Self, String> {
        let path = folder.join(from.file_name().unwrap_or_default());
        let copied = fs::create_dir_all(folder).and_then(|()| fs::copy(from, &path));
        copied.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self { path, places: HashMap::new() })
    }

    /// Puts `text` where `source` was built in; `false` where it is not in this binary.
    pub(crate) fn write(&mut self, file: &str, source: &str, text: &str) -> Result<bool, String> {
        let error = |error| format!("cannot write {}: {error}", self.path.display());
        if !self.places.contains_key(file) {
            let bytes = fs::read(&self.path).map_err(error)?;
            self.places.insert(file.to_string(), occurrences(&bytes, source.as_bytes()));
        }
        let places = &self.places[file];
        let mut binary = OpenOptions::new().write(true).open(&self.path).map_err(error)?;
        for &place in places {
            binary
                .seek(SeekFrom::Start(place as u64))
                .and_then(|_| binary.write_all(text.as_bytes()))
                .map_err(error)?;
        }
        Ok(!places.is_empty())
    }
}

/// Where `text` begins.
fn occurrences(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    // Most bytes of a binary are neither letters nor slashes, with which shaders begin.
    let starts = bytes.iter().enumerate().filter(|(_, byte)| Some(*byte) == text.first());
    starts.map(|(start, _)| start).filter(|&start| bytes[start..].starts_with(text)).collect()
}

/// A shader in exactly `len` bytes: with blanks at its end, or without the indentation of its first lines. What it
/// means stays the same, and so do the numbers of its lines.
pub(crate) fn fit(shader: &str, len: usize) -> Option<String> {
    let mut fitted = shader.to_string();
    let mut line = 0;
    while fitted.len() > len && line < fitted.len() {
        let indentation = fitted[line..].len() - fitted[line..].trim_start_matches(' ').len();
        fitted.replace_range(line..line + indentation.min(fitted.len() - len), "");
        line += fitted[line..].find('\n').map_or(fitted.len(), |end| end + 1);
    }
    let missing = len.checked_sub(fitted.len())?;
    fitted.push_str(&" ".repeat(missing));
    Some(fitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_shader_loses_indentation_and_a_shorter_one_gets_blanks() {
        assert_eq!(fit("fn f() {\n    a;\n    b;\n}\n", 19).as_deref(), Some("fn f() {\na;\n  b;\n}\n"));
        assert_eq!(fit("fn f() {}\n", 12).as_deref(), Some("fn f() {}\n  "));
        assert_eq!(fit("ab", 1), None);
        assert_eq!(fit("", 1).as_deref(), Some(" "));
    }

    #[test]
    fn every_copy_of_a_shader_in_a_binary_is_broken_and_mended() {
        let folder = std::env::temp_dir().join(format!("xtask-binary-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a writable folder for temporary files");
        let original = folder.join("tests");
        fs::write(&original, b"\0// a\0b\0// a\xff").expect("a new file");
        let mut binary = Binary::copy(&original, &folder.join("copy")).expect("a copy");
        assert_eq!(binary.write("a.wgsl", "// a", "// b"), Ok(true));
        assert_eq!(binary.write("c.wgsl", "// c", "// d"), Ok(false));
        assert_eq!(fs::read(&binary.path).expect("the copy"), b"\0// b\0b\0// b\xff");
        assert_eq!(binary.write("a.wgsl", "// a", "// a"), Ok(true));
        assert_eq!(fs::read(&binary.path).expect("the copy"), b"\0// a\0b\0// a\xff");
        fs::remove_dir_all(&folder).ok();
    }
}
