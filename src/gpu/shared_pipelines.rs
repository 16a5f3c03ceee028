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
    pub(super) cache: Option<wgpu::PipelineCache>,
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
        Self { device: device.clone(), cache: None, made: Arc::default() }
    }

    /// Compiles by way of a cache, which spares the driver's compilations to programs that begin with the data an earlier one
    /// has kept. wgpu has such caches on Vulkan only, and many drivers keep one of their own.
    ///
    /// The cache has to be of the same device, which has to have [`wgpu::Features::PIPELINE_CACHE`]; that of
    /// [`Gpu`](crate::Gpu) has it where the adapter does. Making one is unsafe, because drivers trust its data:
    ///
    /// ```
    /// use std::{fs, io, path::Path};
    /// use wgpu_optim::{AdamW, Error, Gpu, Layout, Optimizer, SharedPipelines, wgpu};
    ///
    /// fn load(gpu: &Gpu, file: &Path) -> Option<wgpu::PipelineCache> {
    ///     if !gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
    ///         return None;
    ///     }
    ///     let data = fs::read(file).ok();
    ///     let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
    ///     // SAFETY: only `save` writes this file.
    ///     Some(unsafe { gpu.device.create_pipeline_cache(&descriptor) })
    /// }
    ///
    /// fn save(cache: &wgpu::PipelineCache, file: &Path) -> io::Result<()> {
    ///     let Some(data) = cache.get_data() else { return Ok(()) };
    ///     let whole = file.with_extension("new");
    ///     fs::write(&whole, data)?;
    ///     fs::rename(whole, file)
    /// }
    ///
    /// # fn first_step(gpu: &Gpu, pipelines: &SharedPipelines) -> Result<(), Error> {
    /// #     let mut optimizer = Optimizer::builder(AdamW::default()).build_shared(pipelines, &Layout::flat(1_000)?)?;
    /// #     let usage = wgpu::BufferUsages::STORAGE;
    /// #     let descriptor = wgpu::BufferDescriptor { label: None, size: 4_000, usage, mapped_at_creation: false };
    /// #     let [params, grads] = [(); 2].map(|()| gpu.device.create_buffer(&descriptor));
    /// #     let mut encoder = gpu.device.create_command_encoder(&Default::default());
    /// #     optimizer.step(&mut encoder, &gpu.queue, &params, &grads)?;
    /// #     gpu.queue.submit([encoder.finish()]);
    /// #     Ok(())
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let gpu = pollster::block_on(Gpu::new())?;
    /// let file = wgpu::util::pipeline_cache_key(&gpu.adapter.get_info()).unwrap_or_default();
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join(file);
    /// # for _ in 0..2 {
    /// # let file = file.clone();
    /// let mut pipelines = SharedPipelines::new(&gpu.device);
    /// let cache = load(&gpu, Path::new(&file));
    /// if let Some(cache) = &cache {
    ///     pipelines = pipelines.with_cache(cache.clone());
    /// }
    /// // … `build_shared`, and the first step, which compiles; then:
    /// # first_step(&gpu, &pipelines)?;
    /// if let Some(cache) = &cache {
    ///     save(cache, Path::new(&file))?;
    /// }
    /// # assert_eq!(cache.is_some(), file.exists());
    /// # }
    /// # // That the pipelines are made with the cache: wgpu refuses that of another device.
    /// # let descriptor = wgpu::DeviceDescriptor { required_features: gpu.device.features(), ..Default::default() };
    /// # let (device, queue) = pollster::block_on(gpu.adapter.request_device(&descriptor))?;
    /// # if let Some(foreign) = load(&Gpu { device, queue, ..gpu.clone() }, &file) {
    /// #     let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    /// #     first_step(&gpu, &SharedPipelines::new(&gpu.device).with_cache(foreign))?;
    /// #     assert!(pollster::block_on(scope.pop()).is_some());
    /// # }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_cache(self, cache: wgpu::PipelineCache) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// The pipeline, made by the first who asks; others that want the same meanwhile wait for it.
    pub(crate) fn get(&self, key: PipelineKey, make: impl FnOnce() -> wgpu::ComputePipeline) -> wgpu::ComputePipeline {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let pipeline = made.entry(key).or_default().clone();
        drop(made);
        pipeline.get_or_init(make).clone()
    }
}
