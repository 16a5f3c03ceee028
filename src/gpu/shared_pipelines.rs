use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::kernel::{Kernel, KernelKey};
use super::shader::Reflection;

/// Kernels, each compiled once, by the first thread that asks for it.
type Compiled = HashMap<KernelKey, Arc<OnceLock<Arc<Kernel>>>>;

/// Compiled kernels that optimizers of one device share: a program with an optimizer per part of a model compiles each
/// kernel once.
///
/// Kernels are equal if the rules' WGSL and constants are; hyperparameters do not matter. They live as long as the last
/// clone of this handle and the last optimizer made with it.
///
/// ```no_run
/// # fn f(device: &wgpu_optim::wgpu::Device, queue: &wgpu_optim::wgpu::Queue) -> Result<(), wgpu_optim::Error> {
/// use wgpu_optim::{AdamW, Layout, Optimizer, SharedPipelines};
/// let pipelines = SharedPipelines::new(device);
/// let generator = Optimizer::builder(AdamW::default());
/// let generator = generator.build_shared(&pipelines, queue, &Layout::flat(1_000)?)?;
/// let critic = Optimizer::builder(AdamW::default().with_lr(4e-4));
/// let critic = critic.build_shared(&pipelines, queue, &Layout::flat(500)?)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SharedPipelines {
    /// Pipelines are shared by handle, not by comparing devices: wgpu numbers devices within an instance, and two of
    /// different instances may compare as equal.
    pub(crate) device: wgpu::Device,
    pub(super) cache: Option<wgpu::PipelineCache>,
    compiled: Arc<Mutex<Compiled>>,
    /// Interfaces of valid kernels.
    validated: Arc<Mutex<HashMap<KernelKey, Arc<Reflection>>>>,
}

impl fmt::Debug for SharedPipelines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPipelines").field("device", &self.device).finish_non_exhaustive()
    }
}

impl SharedPipelines {
    /// Creates an empty set for optimizers on this device. Compiles nothing yet.
    pub fn new(device: &wgpu::Device) -> Self {
        Self { device: device.clone(), cache: None, compiled: Arc::default(), validated: Arc::default() }
    }

    /// Compiles through a pipeline cache: a program that loads the data of an earlier run spares the driver's compilation.
    /// wgpu has pipeline caches on Vulkan alone; many drivers keep one of their own.
    ///
    /// The cache must be of the same device, and the device needs [`wgpu::Features::PIPELINE_CACHE`]; that of
    /// [`Gpu`](crate::Gpu) has it if the adapter does. Creating one is unsafe, because drivers trust its data:
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
    /// #     let mut optimizer = Optimizer::builder(AdamW::default()).build_shared(pipelines, &gpu.queue, &Layout::flat(1_000)?)?;
    /// #     let usage = wgpu::BufferUsages::STORAGE;
    /// #     let descriptor = wgpu::BufferDescriptor { label: None, size: 4_000, usage, mapped_at_creation: false };
    /// #     let [params, grads] = [(); 2].map(|()| gpu.device.create_buffer(&descriptor));
    /// #     let mut encoder = gpu.device.create_command_encoder(&Default::default());
    /// #     optimizer.step(&mut encoder, &params, &grads)?;
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
    /// // … `build_shared`, and `prepare` or the first step, which compile; then:
    /// # first_step(&gpu, &pipelines)?;
    /// if let Some(cache) = &cache {
    ///     save(cache, Path::new(&file))?;
    /// }
    /// # assert_eq!(cache.is_some(), file.exists());
    /// # }
    /// # // The pipelines are made with the cache: wgpu refuses that of another device.
    /// # let descriptor = wgpu::DeviceDescriptor { required_features: gpu.device.features(), ..Default::default() };
    /// # let (device, queue) = pollster::block_on(gpu.adapter.request_device(&descriptor))?;
    /// # let second = Gpu::from_parts(gpu.instance.clone(), gpu.adapter.clone(), device, queue);
    /// # if let Some(foreign) = load(&second, &file) {
    /// #     let refused = first_step(&gpu, &SharedPipelines::new(&gpu.device).with_cache(foreign));
    /// #     assert!(matches!(refused, Err(Error::Shader { .. })));
    /// # }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_cache(self, cache: wgpu::PipelineCache) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// The kernel, compiled by the first caller; others that need it meanwhile wait.
    pub(crate) fn kernel(&self, key: &KernelKey, compile: impl FnOnce() -> Kernel) -> Arc<Kernel> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let kernel = compiled.entry(key.clone()).or_default().clone();
        drop(compiled);
        kernel.get_or_init(|| Arc::new(compile())).clone()
    }

    /// The interface of a kernel, validated once.
    pub(crate) fn reflection(
        &self,
        source: &str,
        constants: &[(String, f64)],
        validate: impl FnOnce() -> Result<Reflection, String>,
    ) -> Result<Arc<Reflection>, String> {
        let constants = constants.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect();
        let key = KernelKey { source: source.to_owned(), constants };
        let known = self.validated.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(reflection) = known {
            return Ok(reflection);
        }
        let reflection = Arc::new(validate()?);
        self.validated.lock().unwrap_or_else(PoisonError::into_inner).insert(key, reflection.clone());
        Ok(reflection)
    }
}
