use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Compiled pipelines that optimizers of one device share: a program with an optimizer for each part of a model
/// compiles each kernel once.
///
/// Kernels are the same where the rules' WGSL and constants are; hyperparameters do not matter. They are kept until the
/// last clone of this handle and the last optimizer made with it are gone.
///
/// ```no_run
/// # fn f(device: &wgpu_optim::wgpu::Device) -> Result<(), wgpu_optim::Error> {
/// use wgpu_optim::{AdamW, Layout, Optimizer, SharedPipelines};
/// let pipelines = SharedPipelines::new(device);
/// let generator = Optimizer::builder(AdamW::default()).build_shared(&pipelines, &Layout::flat(1_000)?)?;
/// let critic = Optimizer::builder(AdamW::default().with_lr(4e-4)).build_shared(&pipelines, &Layout::flat(500)?)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct SharedPipelines {
    /// wgpu numbers devices within an instance, so that two of different instances compare as equal: pipelines are
    /// shared by whoever holds the handle, and not by comparison.
    pub(crate) device: wgpu::Device,
    made: Arc<Mutex<Made>>,
}

type Made = HashMap<PipelineKey, Arc<OnceLock<wgpu::ComputePipeline>>>;

/// What makes two pipelines the same: all that compiles to their code. Constants are compared by their bits.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct PipelineKey {
    pub(crate) entry_point: &'static str,
    pub(crate) source: String,
    pub(crate) constants: Vec<(String, u64)>,
}

impl SharedPipelines {
    /// For optimizers on this device; compiles nothing yet.
    pub fn new(device: &wgpu::Device) -> Self {
        Self { device: device.clone(), made: Arc::default() }
    }

    /// The pipeline, made by the first who asks; others that want the same meanwhile wait for it.
    pub(crate) fn get(&self, key: PipelineKey, make: impl FnOnce() -> wgpu::ComputePipeline) -> wgpu::ComputePipeline {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let pipeline = made.entry(key).or_default().clone();
        drop(made);
        pipeline.get_or_init(make).clone()
    }
}
