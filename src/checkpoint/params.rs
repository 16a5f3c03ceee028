//! Parameters in a file of their own.

use std::collections::HashMap;
use std::io::{Read, Seek, Write};
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use super::entries::{Entry, Place, tensor_entries};
use super::error::CheckpointError;
use super::options::LoadOptions;
use super::tensor_file::{Part, TensorFile, WINDOW, header_bytes};
#[cfg(not(target_arch = "wasm32"))]
use super::writer::replace_file;
use crate::error::check_len;
use crate::{Dtype, HostSlice, HostSliceMut, Layout};

/// Saves parameters alone to a safetensors file, for other programs: tensors in their format with the names and
/// shapes of the layout, without padding. An error or an interruption leaves an older file as it is.
///
/// ```
/// use wgpu_optim::Layout;
/// use wgpu_optim::checkpoint::{LoadOptions, load_params, save_params};
/// let layout = Layout::builder().tensor("weight", &[2]).tensor("bias", &[1]).build()?;
/// let params = vec![1.0; layout.len()];
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("params.safetensors");
/// save_params(&path, &layout, &params)?;
/// let mut loaded = vec![0.0; layout.len()];
/// load_params(&path, &layout, &mut loaded, &LoadOptions::default())?;
/// assert_eq!(loaded[..2], params[..2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`CheckpointError::Io`]; [`CheckpointError::ReservedName`]; [`CheckpointError::Optimizer`] for parameters of another
/// length.
#[cfg(not(target_arch = "wasm32"))]
pub fn save_params<'a>(
    path: impl AsRef<Path>,
    layout: &Layout,
    params: impl Into<HostSlice<'a>>,
) -> Result<(), CheckpointError> {
    replace_file(path.as_ref(), |file| save_params_to(file, layout, params))
}

/// As [`save_params`], into a stream.
///
/// # Errors
/// [`CheckpointError::Stream`], and those of [`save_params`].
pub fn save_params_to<'a>(
    mut out: impl Write,
    layout: &Layout,
    params: impl Into<HostSlice<'a>>,
) -> Result<(), CheckpointError> {
    let params = params.into();
    check_len("params", layout.len(), params.len())?;
    let entries = params_entries(layout, params.dtype(), &HashMap::new());
    out.write_all(&params_header(&entries)?)?;
    for entry in entries {
        out.write_all(params.get(entry.range).map_or(&[], HostSlice::bytes))?;
    }
    Ok(out.flush()?)
}

/// Loads parameters from a safetensors file of [`save_params`] or of another program. Tensors have the format of
/// `params`, and are matched by name and shape; a file with others is refused. [`LoadOptions::with_renamed`] applies, the other options have no effect.
/// Padding stays unchanged. The file is read once before anything changes.
///
/// # Errors
/// [`CheckpointError::Io`], [`CheckpointError::NotSafetensors`], [`CheckpointError::Length`],
/// [`CheckpointError::Tensors`], [`CheckpointError::Shape`], [`CheckpointError::Dtype`],
/// [`CheckpointError::UnknownTensor`], [`CheckpointError::Optimizer`] for parameters of another length; nothing has changed
/// then. [`CheckpointError::ChangedWhileRead`].
#[cfg(not(target_arch = "wasm32"))]
pub fn load_params<'a>(
    path: impl AsRef<Path>,
    layout: &Layout,
    params: impl Into<HostSliceMut<'a>>,
    options: &LoadOptions,
) -> Result<(), CheckpointError> {
    load_from(TensorFile::open(path.as_ref())?, layout, params.into(), options)
}

/// As [`load_params`], from a stream, such as `std::io::Cursor` over bytes. The stream ends with the file.
///
/// # Errors
/// [`CheckpointError::Stream`], and those of [`load_params`].
pub fn load_params_from<'a>(
    source: impl Read + Seek,
    layout: &Layout,
    params: impl Into<HostSliceMut<'a>>,
    options: &LoadOptions,
) -> Result<(), CheckpointError> {
    load_from(TensorFile::new(source)?, layout, params.into(), options)
}

fn load_from<R: Read + Seek>(
    mut file: TensorFile<R>,
    layout: &Layout,
    params: HostSliceMut<'_>,
    options: &LoadOptions,
) -> Result<(), CheckpointError> {
    check_len("params", layout.len(), params.len())?;
    let dtype = params.dtype();
    let parts = file.params(layout, dtype, options)?;
    let params = params.bytes_mut();
    for part in parts {
        let [start, end] =
            [part.entry.range.start, part.entry.range.end].map(|element| dtype.bytes(element as u64) as usize);
        let mut rest = params.get_mut(start..end).unwrap_or_default();
        file.read(&part, WINDOW, |bytes| {
            if let Some(now) = rest.split_off_mut(..bytes.len()) {
                now.copy_from_slice(bytes);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The tensors of a file of parameters.
pub(crate) fn params_entries(layout: &Layout, dtype: Dtype, renamed: &HashMap<String, String>) -> Vec<Entry> {
    let name_of = |name: &str| renamed.get(name).map_or(name, String::as_str).to_owned();
    tensor_entries(layout, (Place::Params, dtype), name_of).collect()
}

/// The bytes of a file of parameters before its tensors.
pub(crate) fn params_header(entries: &[Entry]) -> Result<Vec<u8>, CheckpointError> {
    if let Some(entry) = entries.iter().find(|entry| entry.name == "__metadata__") {
        return Err(CheckpointError::ReservedName { tensor: entry.name.clone() });
    }
    header_bytes(entries, [], None)
}

impl<R: Read + Seek> TensorFile<R> {
    /// Checks a file of parameters. Returns its tensors.
    pub(crate) fn params(
        &mut self,
        layout: &Layout,
        dtype: Dtype,
        options: &LoadOptions,
    ) -> Result<Vec<Part>, CheckpointError> {
        options.check_names(layout)?;
        self.check_len()?;
        let entries = self.matching(params_entries(layout, dtype, &options.renamed), |_| true)?;
        // Reads all of the file, so that the second time will succeed.
        let checksums = self.checksums(self.names.len())?;
        self.parts(entries, &checksums)
    }
}
