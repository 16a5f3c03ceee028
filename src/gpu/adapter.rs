use crate::Error;

/// An adapter with a device and its queue, for programs that have none yet.
///
/// The device has few of the adapter's features. Frameworks such as burn choose kernels by the adapter's features: let them
/// make the device, and build the optimizer on theirs.
///
/// `WGPU_BACKEND` (`vulkan`, `metal`, `dx12`, `gl`) and `WGPU_ADAPTER_NAME` (part of a name) narrow the choice.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Gpu {
    /// The instance of the adapter.
    pub instance: wgpu::Instance,
    /// The adapter.
    pub adapter: wgpu::Adapter,
    /// A device with the adapter's limits for buffers and bindings, wgpu's default limits otherwise, and timestamp queries
    /// and pipeline caches if the adapter has them.
    pub device: wgpu::Device,
    /// The device's queue.
    pub queue: wgpu::Queue,
}

impl Gpu {
    /// A device that the program made itself.
    pub fn from_parts(
        instance: wgpu::Instance,
        adapter: wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
    ) -> Self {
        Self { instance, adapter, device, queue }
    }

    /// The best adapter: hardware first, a software driver last.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], [`Error::RequestDevice`].
    pub async fn new() -> Result<Self, Error> {
        Self::find("GPU or software Vulkan", |_| true).await
    }

    /// The best hardware adapter, no software driver.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], [`Error::RequestDevice`].
    pub async fn hardware() -> Result<Self, Error> {
        Self::find("hardware GPU", |info| !is_software(info)).await
    }

    /// Whether the adapter is a driver that computes on the CPU.
    pub fn is_software(&self) -> bool {
        is_software(&self.adapter.get_info())
    }

    /// Name, kind, API and driver of the adapter in one line.
    pub fn describe(&self) -> String {
        describe(&self.adapter.get_info())
    }

    async fn find(wanted: &'static str, accept: impl Fn(&wgpu::AdapterInfo) -> bool) -> Result<Self, Error> {
        let (instance, mut adapters, filter) = adapters().await;
        let found = adapters.iter().map(|adapter| describe(&adapter.get_info())).collect();
        adapters.retain(|adapter| filter.is_none() && accept(&adapter.get_info()));
        adapters.sort_by_key(|adapter| rank(&adapter.get_info()));
        let mut refused = None;
        for adapter in adapters {
            match request_device(&adapter).await {
                Ok((device, queue)) => return Ok(Self { instance, adapter, device, queue }),
                Err(source) => {
                    refused.get_or_insert(Error::RequestDevice { adapter: describe(&adapter.get_info()), source });
                }
            }
        }
        Err(refused.unwrap_or(Error::NoAdapter { wanted, found, filter }))
    }
}

async fn request_device(adapter: &wgpu::Adapter) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let available = adapter.limits();
    let required_limits = wgpu::Limits {
        max_buffer_size: available.max_buffer_size,
        max_storage_buffer_binding_size: available.max_storage_buffer_binding_size,
        max_storage_buffers_per_shader_stage: available.max_storage_buffers_per_shader_stage,
        ..wgpu::Limits::default().or_worse_values_from(&available)
    };
    let timestamps = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
    let wanted = timestamps | wgpu::Features::PIPELINE_CACHE;
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("wgpu-optim"),
        required_features: wanted & adapter.features(),
        required_limits,
        ..Default::default()
    };
    adapter.request_device(&descriptor).await
}

fn is_software(info: &wgpu::AdapterInfo) -> bool {
    info.device_type == wgpu::DeviceType::Cpu
}

/// Smaller is better; OpenGL only where nothing else serves the same kind of adapter.
fn rank(info: &wgpu::AdapterInfo) -> (u8, bool) {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    (kind, info.backend == wgpu::Backend::Gl)
}

fn describe(info: &wgpu::AdapterInfo) -> String {
    let driver = format!("{} {}", info.driver, info.driver_info);
    format!("{} ({:?}, {:?}, {})", info.name, info.device_type, info.backend, driver.trim())
}

/// The adapters that compute, with their instance, and the value of `WGPU_ADAPTER_NAME` if it excludes every one of them.
#[cfg(not(target_arch = "wasm32"))]
async fn adapters() -> (wgpu::Instance, Vec<wgpu::Adapter>, Option<String>) {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    adapters
        .retain(|adapter| adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS));
    let Ok(filter) = std::env::var("WGPU_ADAPTER_NAME") else { return (instance, adapters, None) };
    let name = filter.to_lowercase();
    let matches = |adapter: &wgpu::Adapter| adapter.get_info().name.to_lowercase().contains(&name);
    let excludes_all = !adapters.is_empty() && !adapters.iter().any(matches);
    if !excludes_all {
        adapters.retain(matches);
    }
    (instance, adapters, excludes_all.then_some(filter))
}

#[cfg(target_arch = "wasm32")]
async fn adapters() -> (wgpu::Instance, Vec<wgpu::Adapter>, Option<String>) {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await.into_iter().collect();
    (instance, adapters, None)
}
