//! Pipelines that the optimizers of a device share: a program with one optimizer per model part compiles each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// What makes two pipelines the same: all that compiles to their code. Constants are compared by their bits.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct PipelineKey {
    pub(crate) entry_point: &'static str,
    pub(crate) source: String,
    pub(crate) constants: Vec<(String, u64)>,
}

/// The pipelines of one device, for as long as any optimizer on it lives.
#[derive(Debug)]
pub(crate) struct PipelineCache {
    device: wgpu::Device,
    made: Mutex<HashMap<PipelineKey, Arc<OnceLock<wgpu::ComputePipeline>>>>,
}

impl PipelineCache {
    /// The cache of the device: another optimizer's, or a new one.
    pub(crate) fn of(device: &wgpu::Device) -> Arc<Self> {
        static CACHES: Mutex<Vec<Weak<PipelineCache>>> = Mutex::new(Vec::new());

        let mut caches = CACHES.lock().unwrap_or_else(PoisonError::into_inner);
        caches.retain(|cache| cache.strong_count() > 0);
        if let Some(cache) = caches.iter().filter_map(Weak::upgrade).find(|cache| cache.device == *device) {
            return cache;
        }
        let cache = Arc::new(Self { device: device.clone(), made: Mutex::default() });
        caches.push(Arc::downgrade(&cache));
        cache
    }

    /// The pipeline, made by the first who asks; others that want the same meanwhile wait for it.
    pub(crate) fn get(&self, key: PipelineKey, make: impl FnOnce() -> wgpu::ComputePipeline) -> wgpu::ComputePipeline {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let pipeline = made.entry(key).or_default().clone();
        drop(made);
        pipeline.get_or_init(make).clone()
    }
}
