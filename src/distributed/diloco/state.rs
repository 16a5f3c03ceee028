//! The state in a file, or on its way to a rank that joins.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use serde::{Deserialize, Serialize};

use super::DiLoCo;
use super::fragment::Fragment;
#[cfg(not(target_arch = "wasm32"))]
use crate::checkpoint::replace_file;
use crate::checkpoint::{Checkpoint, CheckpointError, LoadOptions, Loaded};
use crate::storage::Dtype;

/// The newest format that this version reads, and the one that it writes.
const FORMAT: u32 = 1;
/// Key of the header in the file's metadata.
const KEY: &str = "wgpu-optim DiLoCo";

/// Everything but the tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    settings: Settings,
    steps: u64,
    exchanges: u64,
    /// Step of the last exchange of each fragment.
    exchanged_at: Vec<u64>,
    /// CRC-32 of the tensors, in the order of their names.
    checksum: u32,
}

/// What the program has to set as before.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    every: u64,
    delay: u64,
    local_weight: f32,
    wire_dtype: Dtype,
    fragments: usize,
}

impl DiLoCo {
    /// Saves the state to a safetensors file. An error or an interruption leaves an older file as it is.
    ///
    /// The file has the parameters of the last outer step (`global/NAME`), means to be merged (`pending/NAME`), the rounding
    /// that this rank still owes (`residuals/NAME`), and a [checkpoint](crate::checkpoint) of each fragment's outer optimizer
    /// (`outer/NUMBER`, bytes). The program saves its own parameters and optimizer, at the same step. Files of the ranks
    /// differ in the residuals alone.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let bytes = self.bytes(true)?;
        replace_file(path.as_ref(), |file| Ok(std::io::Write::write_all(file, &bytes)?))
    }

    /// Continues from a file of [`DiLoCo::save`], which must have been written with the settings of this builder. `options`
    /// are those of the outer optimizer.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::NotSafetensors`], [`CheckpointError::NotACheckpoint`],
    /// [`CheckpointError::NewerFormat`], [`CheckpointError::Mismatch`], [`CheckpointError::Tensors`],
    /// [`CheckpointError::Damaged`], and those of [`CpuOptimizer::load`](crate::CpuOptimizer::load) for the outer optimizer; nothing has changed then.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(&mut self, path: impl AsRef<Path>, options: &LoadOptions) -> Result<Loaded, CheckpointError> {
        let path = path.as_ref();
        let failed = |source| CheckpointError::Io { action: "reading", path: path.to_owned(), source };
        self.load_bytes(&std::fs::read(path).map_err(failed)?, options)
    }

    /// What a rank that joins needs: the state and the parameters of this rank.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub(super) fn shared_state(&self, params: &[f32]) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = self.bytes(false)?;
        bytes.extend_from_slice(bytemuck::cast_slice(params));
        Ok(bytes)
    }

    /// Continues from the state of another rank.
    ///
    /// # Errors
    /// Those of [`DiLoCo::load`], the file's aside, and [`CheckpointError::Settings`].
    pub(super) fn load_shared(&mut self, bytes: &[u8], params: &mut [f32]) -> Result<(), CheckpointError> {
        let Some((state, of_params)) = bytes.split_at_checked(bytes.len().saturating_sub(size_of_val(params))) else {
            return Err(not_safetensors("it has no parameters"));
        };
        let _ = self.load_bytes(state, &LoadOptions::default().exact())?;
        bytemuck::cast_slice_mut(params).copy_from_slice(of_params);
        Ok(())
    }

    fn settings(&self) -> Settings {
        let Self { every, delay, local_weight, dtype: wire_dtype, ref fragments, .. } = *self;
        Settings { every, delay, local_weight, wire_dtype, fragments: fragments.len() }
    }

    fn bytes(&self, with_residuals: bool) -> Result<Vec<u8>, CheckpointError> {
        let outer: Vec<Vec<u8>> = self.fragments.iter().map(outer_bytes).collect::<Result<_, _>>()?;
        let mut tensors = BTreeMap::new();
        for (number, (fragment, outer)) in self.fragments.iter().zip(&outer).enumerate() {
            tensors.insert(format!("outer/{number}"), view(FileDtype::U8, &[outer.len()], outer)?);
            for (place, values) in fragment.values() {
                let Some(values) = values.filter(|_| with_residuals || place != Place::Residuals) else { continue };
                for tensor in fragment.layout.tensors() {
                    let bytes = bytemuck::cast_slice(&values[tensor.range()]);
                    tensors.insert(place.name_of(tensor.name()), view(FileDtype::F32, tensor.shape(), bytes)?);
                }
            }
        }
        let header = Header {
            format: FORMAT,
            settings: self.settings(),
            steps: self.steps,
            exchanges: self.exchanges,
            exchanged_at: self.fragments.iter().map(|fragment| fragment.exchanged_at).collect(),
            checksum: checksum(tensors.values().map(TensorView::data)),
        };
        let header = serde_json::to_string(&header).map_err(not_a_checkpoint)?;
        let metadata = HashMap::from([(KEY.to_owned(), header)]);
        safetensors::serialize(tensors, Some(metadata)).map_err(not_safetensors)
    }

    /// # Errors
    /// Those of [`DiLoCo::load`], the file's aside.
    fn load_bytes(&mut self, bytes: &[u8], options: &LoadOptions) -> Result<Loaded, CheckpointError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(not_safetensors)?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let header = header.ok_or_else(|| not_a_checkpoint(format!("its metadata have no key {KEY:?}")))?;
        let header: Header = serde_json::from_str(header).map_err(not_a_checkpoint)?;
        if header.format > FORMAT {
            return Err(CheckpointError::NewerFormat { format: header.format.into(), newest: FORMAT });
        }
        let own = self.settings();
        if header.settings != own || header.exchanged_at.len() != own.fragments {
            return Err(CheckpointError::Mismatch {
                what: "the settings of DiLoCo",
                file: format!("{:?}", header.settings),
                program: format!("{own:?}"),
                remedy: "build it with those of the file",
            });
        }
        let file = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
        let tensors: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
        if checksum(tensors.values().map(TensorView::data)) != header.checksum {
            return Err(CheckpointError::Damaged { part: "the tensors".to_owned() });
        }
        let loaded: Vec<_> =
            self.fragments.iter().map(|fragment| read(fragment, &tensors)).collect::<Result<_, _>>()?;
        let outer = |number: usize| required(&tensors, &format!("outer/{number}"));
        let outer: Vec<_> = (0..self.fragments.len()).map(outer).collect::<Result<_, _>>()?;
        // The outer optimizers have equal settings.
        let mut last = Loaded::default();
        for (fragment, outer) in self.fragments.iter_mut().zip(outer) {
            let mut checkpoint = Checkpoint::new(Cursor::new(outer.data()))?;
            last = fragment.outer.load_from(&mut checkpoint, None, options)?;
        }
        for ((fragment, [global, pending, residual]), exchanged_at) in
            self.fragments.iter_mut().zip(loaded).zip(header.exchanged_at)
        {
            fragment.global = global.unwrap_or_default();
            fragment.pending = pending;
            fragment.residual = residual.unwrap_or_default();
            fragment.exchanged_at = exchanged_at;
        }
        self.steps = header.steps;
        self.exchanges = header.exchanges;
        self.joins = false;
        Ok(last)
    }
}

/// A value for each parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Global,
    Pending,
    Residuals,
}

impl Place {
    const ALL: [Self; 3] = [Self::Global, Self::Pending, Self::Residuals];

    fn name_of(self, tensor: &str) -> String {
        let place = match self {
            Self::Global => "global",
            Self::Pending => "pending",
            Self::Residuals => "residuals",
        };
        format!("{place}/{tensor}")
    }
}

impl Fragment {
    /// The values at each place; `None` where there are none. f32 differences leave no residuals.
    fn values(&self) -> [(Place, Option<&[f32]>); 3] {
        let residual = Some(&self.residual[..]).filter(|residual| !residual.is_empty());
        [(Place::Global, Some(&self.global)), (Place::Pending, self.pending.as_deref()), (Place::Residuals, residual)]
    }
}

/// The values of a fragment at each place. Only the parameters are there in every file.
fn read(
    fragment: &Fragment,
    tensors: &BTreeMap<String, TensorView<'_>>,
) -> Result<[Option<Vec<f32>>; 3], CheckpointError> {
    let mut values = [const { None }; 3];
    for (place, values) in Place::ALL.into_iter().zip(&mut values) {
        let infos = fragment.layout.tensors();
        let is_there = infos.iter().any(|tensor| tensors.contains_key(&place.name_of(tensor.name())));
        if !is_there && place != Place::Global {
            continue;
        }
        let mut all = Vec::with_capacity(fragment.len());
        for tensor in infos {
            let name = place.name_of(tensor.name());
            let view = required(tensors, &name)?;
            if view.dtype() != FileDtype::F32 {
                let [file, program] = [view.dtype(), FileDtype::F32].map(|dtype| dtype.to_string());
                return Err(CheckpointError::Dtype { tensor: name, file, program });
            }
            if view.shape() != tensor.shape() {
                let (file, program) = (view.shape().to_vec(), tensor.shape().to_vec());
                return Err(CheckpointError::Shape { tensor: name, file, program });
            }
            all.extend(bytemuck::pod_collect_to_vec::<u8, f32>(view.data()));
        }
        *values = Some(all);
    }
    Ok(values)
}

fn required<'a, 'b>(
    tensors: &'a BTreeMap<String, TensorView<'b>>,
    name: &str,
) -> Result<&'a TensorView<'b>, CheckpointError> {
    tensors.get(name).ok_or_else(|| CheckpointError::Tensors {
        missing: vec![name.to_owned()],
        unknown: Vec::new(),
        remedy: "build it with the layout of the file",
    })
}

fn outer_bytes(fragment: &Fragment) -> Result<Vec<u8>, CheckpointError> {
    let mut bytes = Vec::new();
    fragment.outer.save_to(&mut bytes, None)?;
    Ok(bytes)
}

fn view<'a>(dtype: FileDtype, shape: &[usize], bytes: &'a [u8]) -> Result<TensorView<'a>, CheckpointError> {
    TensorView::new(dtype, shape.to_vec(), bytes).map_err(not_safetensors)
}

fn checksum<'a>(tensors: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    tensors.for_each(|bytes| hasher.update(bytes));
    hasher.finalize()
}

fn not_safetensors(problem: impl std::fmt::Display) -> CheckpointError {
    CheckpointError::NotSafetensors { problem: problem.to_string() }
}

fn not_a_checkpoint(problem: impl std::fmt::Display) -> CheckpointError {
    CheckpointError::NotACheckpoint { problem: problem.to_string() }
}
