use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use wgpu_optim::Stats;

use super::Error;

/// A recorded run.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) param: Vec<f32>,
    /// One per step.
    pub(crate) grads: Vec<Vec<f32>>,
    /// Estimates of the Hessian's diagonal, by the step they are given before.
    pub(crate) hessians: BTreeMap<usize, Vec<f32>>,
}

impl Trace {
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let tensors = SafeTensors::deserialize(bytes)?;
        let mut named: BTreeMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
        let param = floats("param", &named.remove("param").ok_or("there is no tensor `param`")?)?;
        let mut take = |name: String| -> Result<Option<Vec<f32>>, Error> {
            let Some(tensor) = named.remove(&name) else { return Ok(None) };
            let values = floats(&name, &tensor)?;
            if values.len() != param.len() {
                return Err(format!("`{name}` has {} elements, `param` has {}", values.len(), param.len()).into());
            }
            Ok(Some(values))
        };
        let (mut grads, mut hessians) = (Vec::new(), BTreeMap::new());
        while let Some(grad) = take(format!("grad.{}", grads.len()))? {
            if let Some(hessian) = take(format!("hessian.{}", grads.len()))? {
                hessians.insert(grads.len(), hessian);
            }
            grads.push(grad);
        }
        if let Some(name) = named.keys().next() {
            let next = grads.len();
            return Err(format!("`{name}` is not understood; allowed: `param`, `grad.0`, `grad.1`, … without a gap (the next would be `grad.{next}`), and `hessian.K` beside `grad.K`").into());
        }
        Ok(Self { param, grads, hessians })
    }
}

/// F32, F16 and BF16 as f32, in which all of them are exact.
fn floats(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>, Error> {
    let halves = || tensor.data().chunks_exact(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    match tensor.dtype() {
        Dtype::F32 => {
            let words = tensor.data().chunks_exact(4);
            Ok(words.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect())
        }
        Dtype::F16 => Ok(halves().map(|bits| f16::from_bits(bits).to_f32()).collect()),
        Dtype::BF16 => Ok(halves().map(|bits| bf16::from_bits(bits).to_f32()).collect()),
        other => Err(format!("`{name}` is {other:?}; allowed: F32, F16, BF16").into()),
    }
}

/// What is written at the end.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    tensors: BTreeMap<String, Vec<f32>>,
    lr: Vec<f32>,
    grad_norm: Vec<f32>,
    clip_coef: Vec<f32>,
    skipped: Vec<u8>,
    skips: u64,
}

impl Recording {
    /// Statistics of one step. A norm that was not measured is NaN.
    pub(crate) fn push(&mut self, stats: &Stats) {
        self.lr.push(stats.lr);
        self.grad_norm.push(stats.grad_norm.unwrap_or(f32::NAN));
        self.clip_coef.push(stats.clip_coef);
        self.skipped.push(u8::from(stats.skipped > self.skips));
        self.skips = stats.skipped;
    }

    pub(crate) fn tensor(&mut self, name: String, values: Vec<f32>) {
        self.tensors.insert(name, values);
    }

    /// Steps skipped so far.
    pub(crate) fn skipped(&self) -> u64 {
        self.skips
    }

    /// Writes a temporary file beside `path` and renames it, so that no half file is left.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let statistics = [("lr", &self.lr), ("grad_norm", &self.grad_norm), ("clip_coef", &self.clip_coef)];
        let named = self.tensors.iter().map(|(name, values)| (name.as_str(), values)).chain(statistics);
        let mut views = Vec::new();
        for (name, values) in named {
            views.push((name, TensorView::new(Dtype::F32, vec![values.len()], bytemuck::cast_slice(values))?));
        }
        views.push(("skipped", TensorView::new(Dtype::U8, vec![self.skipped.len()], &self.skipped)?));
        let bytes = safetensors::serialize(views, None)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            std::io::Write::write_all(&mut file, &bytes)?;
            file.persist(path)?;
            Ok(())
        };
        Ok(write().map_err(|error| format!("{}: {error}", path.display()))?)
    }
}
