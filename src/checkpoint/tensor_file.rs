//! A safetensors file: its tensors, matched by name and read in windows.

use std::collections::{HashMap, HashSet};
#[cfg(not(target_arch = "wasm32"))]
use std::fs::File;
#[cfg(not(target_arch = "wasm32"))]
use std::io::BufReader;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::entries::Entry;
use super::error::CheckpointError;

/// Bytes that are read at a time.
pub(crate) const WINDOW: usize = 1 << 20;
/// The remedy of missing and unknown tensors.
const RENAMED: &str = "give the names of renamed tensors to `LoadOptions::with_renamed`";
/// Bytes before the file's metadata: their length.
const LENGTH_BYTES: usize = 8;
/// Maximum bytes of the file's metadata, as in the safetensors format.
const MAX_METADATA: u64 = 100_000_000;

/// An open file with its metadata.
#[derive(Debug)]
pub(crate) struct TensorFile<R> {
    source: R,
    /// Path of a file that was opened here.
    path: Option<PathBuf>,
    len: u64,
    /// First byte of the tensors.
    start: u64,
    /// Checksum of the bytes before the tensors.
    pub(super) header_checksum: u32,
    /// Names in the order of the file.
    pub(super) names: Vec<String>,
    pub(super) metadata: Metadata,
}

/// A part of a file that belongs into an optimizer.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) entry: Entry,
    /// The bytes of the tensor that belong to the entry.
    bytes: Range<usize>,
    /// Checksum of the tensor.
    checksum: u32,
}

impl Part {
    /// The elements of a share alone; `None` without any. Shares begin at blocks of 8-bit states.
    pub(super) fn within(mut self, share: &Range<usize>) -> Option<Self> {
        let Range { start, end } = self.entry.range;
        self.entry.range = start.max(share.start)..end.min(share.end);
        let [first, last] = [self.entry.range.start, self.entry.range.end]
            .map(|element| self.entry.bytes_of(element.saturating_sub(start)));
        self.bytes = first..last;
        (!self.entry.range.is_empty()).then_some(self)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl TensorFile<BufReader<File>> {
    /// Opens a file, and reads its metadata.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], and those of [`TensorFile::new`].
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = File::open(path).map_err(|error| failed(Some(path), error))?;
        Self::read_metadata(BufReader::with_capacity(WINDOW, file), Some(path.to_owned()))
    }
}

impl<R: Read + Seek> TensorFile<R> {
    /// Reads the metadata of a stream, which ends with the file.
    ///
    /// # Errors
    /// [`CheckpointError::Stream`], [`CheckpointError::Length`], [`CheckpointError::NotSafetensors`].
    pub(crate) fn new(source: R) -> Result<Self, CheckpointError> {
        Self::read_metadata(source, None)
    }

    fn read_metadata(mut source: R, path: Option<PathBuf>) -> Result<Self, CheckpointError> {
        let failed = |error| failed(path.as_deref(), error);
        let len = source.seek(SeekFrom::End(0)).map_err(failed)?;
        source.rewind().map_err(failed)?;
        let too_short =
            |expected| if expected > len { Err(CheckpointError::Length { expected, actual: len }) } else { Ok(()) };
        let mut first = [0; LENGTH_BYTES];
        too_short(LENGTH_BYTES as u64)?;
        source.read_exact(&mut first).map_err(failed)?;
        let metadata_len = u64::from_le_bytes(first);
        if metadata_len > MAX_METADATA {
            return Err(not_safetensors(format!("its first 8 bytes announce {metadata_len} bytes of metadata")));
        }
        let start = LENGTH_BYTES as u64 + metadata_len;
        too_short(start)?;
        let mut text = vec![0; metadata_len as usize];
        source.read_exact(&mut text).map_err(failed)?;
        let metadata: Metadata = serde_json::from_slice(&text).map_err(not_safetensors)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&first);
        hasher.update(&text);
        Ok(Self {
            source,
            path,
            len,
            start,
            header_checksum: hasher.finalize(),
            names: metadata.offset_keys(),
            metadata,
        })
    }

    /// Refuses a file that is shorter or longer than its metadata say.
    pub(super) fn check_len(&self) -> Result<(), CheckpointError> {
        // Offsets of a few tensors reach 2^64.
        let (expected, actual) = (self.start.saturating_add(self.metadata.data_len() as u64), self.len);
        if expected == actual { Ok(()) } else { Err(CheckpointError::Length { expected, actual }) }
    }

    /// The expected entries that the file has. Refuses missing ones, other shapes, and unknown ones that concern the program.
    pub(super) fn matching(
        &self,
        expected: Vec<Entry>,
        concerns: impl Fn(&str) -> bool,
    ) -> Result<Vec<Entry>, CheckpointError> {
        let names: HashSet<&str> = expected.iter().map(|entry| entry.name.as_str()).collect();
        let unknown = self.names.iter().filter(|name| concerns(name) && !names.contains(name.as_str()));
        let unknown: Vec<String> = unknown.cloned().collect();
        let lacks = |entry: &&Entry| !entry.place.is_optional() && self.metadata.info(&entry.name).is_none();
        let missing: Vec<String> = expected.iter().filter(lacks).map(|entry| entry.name.clone()).collect();
        if !unknown.is_empty() || !missing.is_empty() {
            return Err(CheckpointError::Tensors { missing, unknown, remedy: RENAMED });
        }
        let mut matching = Vec::new();
        for entry in expected {
            let Some(info) = self.metadata.info(&entry.name) else { continue };
            check_dtype(&entry, info)?;
            if info.shape == entry.shape {
                matching.push(entry);
            } else if !entry.place.is_optional() {
                return Err(other_shape(entry, info));
            }
        }
        Ok(matching)
    }

    /// The checksums of the first tensors of the file. The source then stands behind them.
    pub(super) fn checksums(&mut self, count: usize) -> Result<Vec<u32>, CheckpointError> {
        let (source, path) = (&mut self.source, self.path.as_deref());
        source.seek(SeekFrom::Start(self.start)).map_err(|error| failed(path, error))?;
        let infos = self.names.iter().take(count).filter_map(|name| self.metadata.info(name));
        infos
            .map(|info| read_windows(source, len(info), WINDOW, |_| Ok(())).map_err(|error| failed(path, error))?)
            .collect()
    }

    /// Reads the next bytes.
    pub(super) fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        self.source.read_exact(bytes).map_err(|error| failed(self.path.as_deref(), error))
    }

    /// The last bytes of a tensor: all of it, or so many.
    pub(super) fn tail(&mut self, info: &TensorInfo, max_len: usize) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = vec![0; len(info).min(max_len)];
        let start = self.start.saturating_add((info.data_offsets.1 - bytes.len()) as u64);
        self.source.seek(SeekFrom::Start(start)).map_err(|error| failed(self.path.as_deref(), error))?;
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The entries with the checksums of all tensors of the file, in their order.
    pub(super) fn parts(&self, entries: Vec<Entry>, checksums: &[u32]) -> Result<Vec<Part>, CheckpointError> {
        let checksums: HashMap<&str, u32> =
            self.names.iter().map(String::as_str).zip(checksums.iter().copied()).collect();
        let part = |entry: Entry| {
            let checksum = checksums.get(entry.name.as_str()).copied();
            let checksum = checksum.ok_or_else(|| CheckpointError::Damaged { part: entry.name.clone() })?;
            Ok(Part { bytes: 0..entry.bytes(), entry, checksum })
        };
        entries.into_iter().map(part).collect()
    }

    /// Reads a part in windows of at most so many bytes.
    pub(crate) fn read(
        &mut self,
        part: &Part,
        window: usize,
        mut put: impl FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let changed = || CheckpointError::ChangedWhileRead;
        let info = self.metadata.info(&part.entry.name).ok_or_else(changed)?;
        let start = self.start.saturating_add(info.data_offsets.0 as u64);
        self.source.seek(SeekFrom::Start(start)).map_err(|_| changed())?;
        let mut at = 0;
        let put_own = |window: &[u8]| {
            let own = [part.bytes.start, part.bytes.end].map(|byte| byte.saturating_sub(at).min(window.len()));
            at += window.len();
            let own = window.get(own[0]..own[1]).unwrap_or_default();
            if own.is_empty() { Ok(()) } else { put(own) }
        };
        let checksum = read_windows(&mut self.source, len(info), window, put_own).map_err(|_| changed())??;
        if checksum == part.checksum { Ok(()) } else { Err(changed()) }
    }
}

/// The error of reading a file, or a stream without a path.
fn failed(path: Option<&Path>, source: io::Error) -> CheckpointError {
    match path {
        Some(path) => CheckpointError::Io { action: "reading", path: path.to_owned(), source },
        None => CheckpointError::Stream(source),
    }
}

/// Reads so many bytes in windows. Returns their checksum, or the first error of `put`.
fn read_windows(
    source: &mut impl Read,
    len: usize,
    window: usize,
    mut put: impl FnMut(&[u8]) -> Result<(), CheckpointError>,
) -> io::Result<Result<u32, CheckpointError>> {
    let (mut hasher, mut bytes, mut left) = (crc32fast::Hasher::new(), Vec::new(), len);
    while left > 0 {
        bytes.resize(left.min(window.max(1)), 0);
        source.read_exact(&mut bytes)?;
        hasher.update(&bytes);
        if let Err(error) = put(&bytes) {
            return Ok(Err(error));
        }
        left -= bytes.len();
    }
    Ok(Ok(hasher.finalize()))
}

/// Bytes of a tensor.
fn len(info: &TensorInfo) -> usize {
    info.data_offsets.1 - info.data_offsets.0
}

pub(super) fn other_shape(entry: Entry, info: &TensorInfo) -> CheckpointError {
    CheckpointError::Shape { tensor: entry.name, file: info.shape.clone(), program: entry.shape }
}

/// Refuses tensors of another format.
pub(super) fn check_dtype(entry: &Entry, info: &TensorInfo) -> Result<(), CheckpointError> {
    let program = entry.dtype;
    if info.dtype == program {
        return Ok(());
    }
    let [file, program] = [info.dtype, program].map(|dtype| dtype.to_string());
    Err(CheckpointError::Dtype { tensor: entry.name.clone(), file, program })
}

/// The bytes of a file before its tensors: those of entries, then of others.
pub(super) fn header_bytes<const N: usize>(
    entries: &[Entry],
    others: [(&str, Dtype, usize); N],
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, CheckpointError> {
    let mut end = 0;
    let mut info = |name: &str, dtype, shape: &[usize], bytes: usize| {
        let start = end;
        end += bytes;
        (name.to_owned(), TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (start, end) })
    };
    let mut tensors: Vec<_> =
        entries.iter().map(|entry| info(&entry.name, entry.dtype, &entry.shape, entry.bytes())).collect();
    tensors.extend(others.map(|(name, dtype, len)| info(name, dtype, &[len], 4 * len)));
    let metadata = Metadata::new(metadata, tensors).map_err(not_safetensors)?;
    let mut text = serde_json::to_vec(&metadata).map_err(not_safetensors)?;
    text.resize(text.len().next_multiple_of(LENGTH_BYTES), b' ');
    Ok([&(text.len() as u64).to_le_bytes()[..], &text].concat())
}

fn not_safetensors(problem: impl std::fmt::Display) -> CheckpointError {
    CheckpointError::NotSafetensors { problem: problem.to_string() }
}
