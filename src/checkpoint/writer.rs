//! Writes a checkpoint into a stream, and a stream into a file that replaces an older one only when it is whole.

#[cfg(not(target_arch = "wasm32"))]
use std::fs::File;
use std::io::Write;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use super::entries::Entry;
use super::error::CheckpointError;
use super::header::Header;

/// Writes a header, then tensors in the order of their entries, then the checksums.
pub(crate) struct Writer<W> {
    out: W,
    /// Bytes of each tensor, the next one last.
    tensors: Vec<u64>,
    hasher: crc32fast::Hasher,
    checksums: Vec<u32>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(mut out: W, header: &Header, entries: &[Entry]) -> Result<Self, CheckpointError> {
        let header = header.bytes(entries)?;
        out.write_all(&header)?;
        let mut writer = Self {
            out,
            tensors: entries.iter().rev().map(|entry| entry.bytes() as u64).collect(),
            hasher: crc32fast::Hasher::new(),
            checksums: vec![crc32fast::hash(&header)],
        };
        writer.close_tensors();
        Ok(writer)
    }

    /// Writes the next bytes of the tensors, which may begin and end anywhere.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.out.write_all(bytes)?;
        let mut rest = bytes;
        while let (Some(left), false) = (self.tensors.last_mut(), rest.is_empty()) {
            let (now, later) = rest.split_at(rest.len().min(*left as usize));
            self.hasher.update(now);
            *left -= now.len() as u64;
            rest = later;
            self.close_tensors();
        }
        Ok(())
    }

    /// Stores the checksums of tensors that have no bytes left.
    fn close_tensors(&mut self) {
        while self.tensors.pop_if(|left| *left == 0).is_some() {
            self.checksums.push(std::mem::take(&mut self.hasher).finalize());
        }
    }

    pub(crate) fn finish(mut self) -> Result<(), CheckpointError> {
        self.out.write_all(bytemuck::cast_slice(&self.checksums))?;
        Ok(self.out.flush()?)
    }
}

/// Age of a temporary file that no process writes any more.
#[cfg(not(target_arch = "wasm32"))]
const ABANDONED: std::time::Duration = std::time::Duration::from_secs(3600);

/// Writes a file by way of a temporary file beside it. An error or an interruption leaves an older file as it is. Removes
/// temporary files that earlier interruptions left.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    // Replaces the file that a link points to, not the link.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let failed = |action| move |source| CheckpointError::Io { action, path: path.clone(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    remove_abandoned(folder, &prefix);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(SUFFIX);
    // Temporary files are readable by their owner alone; a checkpoint has the permissions of any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(failed("creating a temporary file beside"))?;
    write(file.as_file_mut()).map_err(|error| match error {
        CheckpointError::Stream(source) => failed("writing")(source),
        error => error,
    })?;
    file.as_file().sync_all().map_err(failed("flushing"))?;
    file.persist(path).map_err(|error| failed("replacing")(error.error))?;
    // The new name reaches the disk with its folder. Systems that cannot open folders need no such call.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(not(target_arch = "wasm32"))]
const SUFFIX: &str = ".tmp";

/// Failures leave a file that takes space: the next call tries again.
#[cfg(not(target_arch = "wasm32"))]
fn remove_abandoned(folder: &Path, prefix: &str) {
    let Ok(files) = std::fs::read_dir(folder) else { return };
    for file in files.flatten() {
        let name = file.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(SUFFIX));
        // As many letters as `tempfile` appends.
        let is_temporary = random.is_some_and(|random| random.len() == 6 && random.chars().all(char::is_alphanumeric));
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
        if is_temporary && age > ABANDONED {
            let _ = std::fs::remove_file(file.path());
        }
    }
}
