//! Parameters of the device in a file of their own.

use std::collections::HashMap;
use std::io::{Read, Seek, Write};
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use wgpu::BufferUsages;

use super::Optimizer;
use super::checkpoint::{LOADED, SAVED};
use crate::BufferSlices;
#[cfg(not(target_arch = "wasm32"))]
use crate::checkpoint::replace_file;
use crate::checkpoint::{CheckpointError, LoadOptions, TensorFile, params_entries, params_header};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
use crate::gpu::{BufferRange, ByteRange};

impl Optimizer {
    /// Saves `params` alone to a safetensors file for other programs: see
    /// [`save_params`](crate::checkpoint::save_params). Waits and moves windows as [`Optimizer::save`]. Between
    /// [`Optimizer::eval`] or [`Optimizer::perturb`] and the way back, these are the parameters that replace those of training.
    ///
    /// # Errors
    /// [`CheckpointError::ReservedName`], and those of [`Optimizer::save`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save_params<'a>(
        &self,
        path: impl AsRef<Path>,
        params: impl Into<BufferSlices<'a>>,
    ) -> Result<(), CheckpointError> {
        replace_file(path.as_ref(), |file| block_on(&self.device, self.save_params_to(file, params)))
    }

    /// As [`Optimizer::save_params`], into a stream: see [`Optimizer::save_to`].
    ///
    /// # Errors
    /// [`CheckpointError::Stream`], and those of [`Optimizer::save_params`].
    pub async fn save_params_to<'a>(
        &self,
        mut out: impl Write,
        params: impl Into<BufferSlices<'a>>,
    ) -> Result<(), CheckpointError> {
        let params = self.loadable(Some(params.into()), BufferUsages::COPY_SRC, SAVED)?;
        let entries = params_entries(&self.plan.layout, self.plan.settings.precision.params.dtype(), &HashMap::new());
        out.write_all(&params_header(&entries)?)?;
        let source = self.source(params.as_deref());
        let ranges: Vec<ByteRange> = entries.iter().flat_map(|entry| source.bytes_of(&self.plan, entry)).collect();
        self.transfer().read(&ranges, |bytes| Ok(out.write_all(bytes)?)).await?;
        Ok(out.flush()?)
    }

    /// Loads `params` from a safetensors file of this crate or of another program: see
    /// [`load_params`](crate::checkpoint::load_params). Takes effect with the next submission. The optimizer stays as it is.
    ///
    /// # Errors
    /// Those of [`load_params`](crate::checkpoint::load_params), and [`CheckpointError::Device`];
    /// [`CheckpointError::Optimizer`] with the errors of [`Optimizer::step`] that concern `params`, which also need
    /// `COPY_DST`, and with [`Error::EvaluationMode`](crate::Error::EvaluationMode) and
    /// [`Error::Perturbed`](crate::Error::Perturbed): the way back would overwrite them.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load_params<'a>(
        &self,
        path: impl AsRef<Path>,
        params: impl Into<BufferSlices<'a>>,
        options: &LoadOptions,
    ) -> Result<(), CheckpointError> {
        let params = self.loadable(Some(params.into()), BufferUsages::COPY_DST, LOADED)?;
        self.load_params_of(TensorFile::open(path.as_ref())?, params.as_deref(), options)
    }

    /// As [`Optimizer::load_params`], from a stream. The stream ends with the file.
    ///
    /// # Errors
    /// [`CheckpointError::Stream`], and those of [`Optimizer::load_params`].
    pub fn load_params_from<'a>(
        &self,
        source: impl Read + Seek,
        params: impl Into<BufferSlices<'a>>,
        options: &LoadOptions,
    ) -> Result<(), CheckpointError> {
        let params = self.loadable(Some(params.into()), BufferUsages::COPY_DST, LOADED)?;
        self.load_params_of(TensorFile::new(source)?, params.as_deref(), options)
    }

    fn load_params_of<R: Read + Seek>(
        &self,
        mut file: TensorFile<R>,
        params: Option<&[BufferRange]>,
        options: &LoadOptions,
    ) -> Result<(), CheckpointError> {
        self.host_state().plan.mode.check_training("load_params")?;
        let parts = file.params(&self.plan.layout, self.plan.settings.precision.params.dtype(), options)?;
        self.write_parts(&mut file, &parts, params)
    }
}
